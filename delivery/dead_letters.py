"""What cannot be delivered, put where people look: why, where from, how often, and the payload."""

from datetime import UTC, datetime

from delivery.observer import DeadLettered, Observer
from delivery.ports import IncomingRecord, OutgoingRecord
from delivery.publication import Publication
from delivery.records import DeliveryRequest, dead_letter_record, unreadable_record
from delivery_log.contract import Unrepeatable
from schemas import Topics, Unreadable

UNKNOWN_OUTCOME = "UNKNOWN_OUTCOME"


class DeadLetters:
    """One platform's."""

    def __init__(self, platform: str, topics: Topics, publication: Publication, observer: Observer) -> None:
        self._platform = platform
        self._topic = topics.deliveries_dlt(platform)
        self._publication = publication
        self._observer = observer

    def letter(
        self,
        request: DeliveryRequest,
        kind: str,
        code: str | None,
        message: str | None,
        attempt: int,
        hop: int | None = None,
    ) -> OutgoingRecord:
        """The record, which the caller publishes. `hop`: the row's, where a row died."""
        self._observer.notice(DeadLettered(self._platform, code or kind, given_up=code == UNKNOWN_OUTCOME))
        return dead_letter_record(
            request,
            topic=self._topic,
            kind=kind,
            code=code,
            message=message,
            attempt=attempt,
            now=datetime.now(UTC),
            hop=hop,
        )

    async def publish_foreign(self, request: DeliveryRequest, kind: str) -> None:
        """No row of ours, or not with this content: kept for a person to look at, and no row changed."""
        message = "no such delivery in the ledger" if kind == "unknown" else "not the event of this delivery"
        await self._publication.publish([self.letter(request, kind, kind.upper(), message, 0)])

    async def publish_unreadable(self, record: IncomingRecord, unreadable: Unreadable) -> None:
        await self._publication.publish([unreadable_record(record, unreadable, self._topic)])
        self._observer.notice(DeadLettered(self._platform, unreadable.kind))


def why_unrepeatable(verdict: Unrepeatable) -> str:
    """In words, for people."""
    return {
        "content_changed": "an earlier attempt may have had its effect, and the content is another now",
        "key_forgotten": "an earlier attempt may have had its effect, and the platform has forgotten its key",
    }[verdict.reason]
