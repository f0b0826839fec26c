"""The command line of `python -m impact_in.simulators`, and the environment variables that it falls back on."""

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from impact_in.simulators import benevity, goodera, workday
from impact_in.simulators.faults import LEVELS
from impact_in.simulators.webhooks import CHOICES, key_of

PLATFORMS = ("benevity", "goodera", "workday")

# Known to everybody, so that trying it out needs no set-up. attribute → (variable, value without one)
_SECRETS = {
    "benevity_api_key": ("BENEVITY_API_KEY", benevity.DEFAULT_API_KEY),
    "benevity_signature_secret": ("BENEVITY_SIGNATURE_SECRET", ""),
    "benevity_webhook_secret": ("BENEVITY_WEBHOOK_SECRET", "simulated-benevity-webhook-secret"),
    "goodera_api_key": ("GOODERA_API_KEY", goodera.DEFAULT_API_KEY),
    "goodera_webhook_secret": ("GOODERA_WEBHOOK_SECRET", "simulated-goodera-webhook-secret"),
    "workday_client_id": ("WORKDAY_CLIENT_ID", workday.DEFAULT_CLIENT_ID),
    "workday_client_secret": ("WORKDAY_CLIENT_SECRET", workday.DEFAULT_CLIENT_SECRET),
    "workday_tenant": ("WORKDAY_TENANT_ID", workday.DEFAULT_TENANT),
    "workday_webhook_secret": ("WORKDAY_WEBHOOK_SECRET", "simulated-workday-webhook-secret"),
}


@dataclass(frozen=True, slots=True)
class Options:
    platforms: tuple[str, ...]
    host: str
    ports: Mapping[str, int]
    faults: str
    seed: int
    fault_exceptions: bool
    quotas: str
    webhook_url: str | None
    webhook_form: str
    webhook_delay: float
    reject_share: float
    latency: float
    receipts: Path | None
    honour_keys: bool
    token_lifetime: int
    secrets: Mapping[str, str]


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Exits with status 2 and one line that names the option, as argparse does; secrets are not repeated."""
    parser = _parser()
    found = parser.parse_args(arguments)
    secrets = {
        name: getattr(found, name) or environment.get(variable) or default
        for name, (variable, default) in _SECRETS.items()
    }
    for name, (variable, _) in _SECRETS.items():
        if name.endswith(("webhook_secret", "signature_secret")):
            try:
                key_of(secrets[name])
            except ValueError:
                parser.error(f"{variable}: base64 is expected after whsec_")
    return Options(
        platforms=tuple(name for name in PLATFORMS if name in (found.platform or PLATFORMS)),
        host=found.host,
        ports={name: getattr(found, f"port_{name}") for name in PLATFORMS},
        faults=found.faults,
        seed=found.seed,
        fault_exceptions=found.fault_exceptions,
        quotas=found.quotas,
        webhook_url=found.webhook_url,
        webhook_form=found.webhook_form,
        webhook_delay=found.webhook_delay_ms / 1000,
        reject_share=found.reject_share,
        latency=found.latency_ms / 1000,
        receipts=found.receipts,
        honour_keys=found.honour_keys,
        token_lifetime=found.token_lifetime,
        secrets=secrets,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m impact_in.simulators",
        description="Simulated Benevity, Goodera and Workday. Prints one JSON line with their addresses.",
        epilog="Example: python -m impact_in.simulators --platform benevity --port-benevity 8101 --faults some",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--platform", action="append", choices=PLATFORMS, help="one of them; repeat for more (default: all)")
    add("--host", default="127.0.0.1", type=_host, help="address to listen on (default: 127.0.0.1)")
    for name in PLATFORMS:
        add(f"--port-{name}", type=_port, default=0, metavar="PORT", help="0: any free port (default)")
    add("--faults", choices=tuple(LEVELS), default="none", help="how sick the platforms are (default: none)")
    add("--seed", type=int, default=1, help="the same seed meets the same faults (default: 1)")
    add(
        "--fault-exceptions",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show an early key a 503 and the 200th a refusal where chance shows none",
    )
    add("--quotas", choices=("none", "real"), default="none", help="real: the platforms' own limits")
    add("--webhook-url", type=_url, metavar="URL", help="gateway that gets status webhooks (default: none)")
    add("--webhook-form", choices=tuple(CHOICES), default="mixed", help="form of signature (default: mixed)")
    add("--webhook-delay-ms", type=_milliseconds, default=50.0, metavar="MS", help="default: 50")
    add("--reject-share", type=_share, default=0.0, metavar="SHARE", help="effects rejected by webhook, 0 to 1")
    add("--latency-ms", type=_milliseconds, default=0.0, metavar="MS", help="added to each answer")
    add("--receipts", type=Path, metavar="FILE", help="JSON lines, synced before each answer; goes on from it")
    add(
        "--honour-keys",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="same Idempotency-Key: same answer, no second effect",
    )
    add("--token-lifetime", type=_seconds, default=3600, metavar="SECONDS", help="Workday's tokens")
    secrets = parser.add_argument_group("credentials", "Better given in the environment: others see this line.")
    for name, (variable, _) in _SECRETS.items():
        secrets.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=f"default: ${variable}")
    return parser


def _host(text: str) -> str:
    if text != "localhost":
        ipaddress.ip_address(text)
    return text


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError
    return port


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    return text


def _milliseconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 600_000:
        raise ValueError
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _seconds(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


for _type, _name in (
    (_host, "address"),
    (_port, "port"),
    (_url, "URL"),
    (_milliseconds, "milliseconds"),
    (_share, "share"),
    (_seconds, "seconds"),
):
    _type.__name__ = _name  # argparse says "invalid {name} value"
