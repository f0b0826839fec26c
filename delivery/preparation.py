"""From a request to what is claimed and sent: the body, built for what this worker believes of the organization."""

from collections import OrderedDict
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from connectors.contract import Connector
from delivery.observer import Observer, Trouble
from delivery.records import DeliveryRequest
from delivery_log.contract import Claim

_COMPANIES_KEPT = 100_000
_SAMPLE_BYTES = 1024
_NAMES: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number"}


class Prepared(msgspec.Struct, frozen=True):
    """A request with its body."""

    request: DeliveryRequest
    organization_id: str
    generation: int
    body: bytes
    payload_hash: str
    defect: str | None = None
    """Why there is no body: the connector failed to build it."""

    def claim(self) -> Claim:
        return Claim(
            delivery_id=self.request.delivery_id,
            hop=self.request.hop,
            content_hash=self.request.content_hash,
            organization_id=self.organization_id,
            generation=self.generation,
            payload_hash=self.payload_hash,
            payload_sample=payload_sample(self.body),
        )


class Preparation:
    """Remembers which organization a company's last delivery went to. A wrong belief costs one more claim: the ledger
    answers `Changed`, and nothing has been sent."""

    def __init__(self, connector: Connector, observer: Observer) -> None:
        self._connector = connector
        self._observer = observer
        self._organizations: OrderedDict[UUID, str] = OrderedDict()

    def prepare(self, request: DeliveryRequest) -> Prepared:
        return self.rebuild(request, self.believed(request.event.company_id), 0)

    def believed(self, company_id: UUID) -> str:
        """The organization that the company's next delivery is thought to go to; empty: nobody knows."""
        return self._organizations.get(company_id, "")

    def rebuild(self, request: DeliveryRequest, organization_id: str, generation: int) -> Prepared:
        """With what the ledger says."""
        try:
            body = self._connector.body(request.event, organization_id, generation)
        except Exception as error:
            # A connector's defect is an outcome of the delivery, not of the worker.
            self._observer.notice(Trouble("connector_body", type(error).__name__))
            return Prepared(request, organization_id, generation, b"", "", type(error).__name__)
        return Prepared(request, organization_id, generation, body, sha256(body).hexdigest())

    def believe(self, company_id: UUID, organization_id: str) -> None:
        self._organizations[company_id] = organization_id
        self._organizations.move_to_end(company_id)
        if len(self._organizations) > _COMPANIES_KEPT:
            self._organizations.popitem(last=False)


def payload_sample(body: bytes) -> str:
    """The body's keys and types without its values, as JSON text of at most 1 KiB."""
    if not body:
        return "null"
    try:
        text = msgspec.json.encode(_types(msgspec.json.decode(body))).decode()
    except msgspec.DecodeError:
        return '"no JSON"'
    return text if len(text) <= _SAMPLE_BYTES and len(text.encode()) <= _SAMPLE_BYTES else '"more than 1 KiB"'


def _types(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _NAMES.get(type(item)) or _types(item) for key, item in value.items()}
    if kind is list:
        return [_types(value[0])] if value else []
    return _NAMES.get(kind, "null")
