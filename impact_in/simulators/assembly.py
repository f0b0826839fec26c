"""Puts a platform's server together from the options."""

from impact_in.simulators.benevity import Benevity
from impact_in.simulators.contract import Platform
from impact_in.simulators.decision import Decider
from impact_in.simulators.faults import FaultPlan, Faults
from impact_in.simulators.goodera import Goodera
from impact_in.simulators.options import Options
from impact_in.simulators.quotas import SlidingWindow
from impact_in.simulators.receipt_file import ReceiptFile
from impact_in.simulators.received import Received
from impact_in.simulators.server import PlatformServer
from impact_in.simulators.webhooks import WebhookSender, key_of
from impact_in.simulators.workday import Workday


class BadReceipts(Exception):
    """The receipts file holds something else than receipts."""


def servers(options: Options, receipts: ReceiptFile | None) -> list[PlatformServer]:
    """One server a platform, each going on from its earlier receipts. Raises BadReceipts."""
    received = {name: Received(name) for name in options.platforms}
    if receipts is not None:
        try:
            for receipt in receipts.earlier():
                if receipt["platform"] in received:
                    received[receipt["platform"]].add(receipt)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadReceipts(f"{options.receipts}: not a file of receipts ({type(error).__name__})") from None
    return [_server(options, name, received[name], receipts) for name in options.platforms]


def _server(options: Options, name: str, received: Received, receipts: ReceiptFile | None) -> PlatformServer:
    platform = _platform(options, name)
    decider = Decider(
        platform,
        received,
        Faults(FaultPlan(options.faults, options.seed, exceptions=options.fault_exceptions)),
        SlidingWindow(platform.limits) if options.quotas == "real" else None,
        honour_keys=options.honour_keys,
        reject_share=options.reject_share,
    )
    sender = WebhookSender(
        name,
        options.webhook_url,
        key_of(options.secrets[f"{name}_webhook_secret"]),
        platform.sign,
        form=options.webhook_form,
        delay=options.webhook_delay,
    )
    return PlatformServer(platform, received, decider, sender, receipts=receipts, latency=options.latency)


def _platform(options: Options, name: str) -> Platform:
    secrets = options.secrets
    match name:
        case "benevity":
            signature_secret = secrets["benevity_signature_secret"]
            return Benevity(secrets["benevity_api_key"], key_of(signature_secret) if signature_secret else None)
        case "goodera":
            return Goodera(secrets["goodera_api_key"])
        case _:
            return Workday(
                secrets["workday_client_id"],
                secrets["workday_client_secret"],
                secrets["workday_tenant"],
                options.token_lifetime,
            )
