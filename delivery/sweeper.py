"""Publishes again what no longer moves: what a crash, an expired retention or a broker that forgot has left behind."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from delivery.observer import Observer, Swept, Trouble
from delivery.ports import OutgoingRecord
from delivery.publication import Publication
from delivery.records import lost_dead_letter, request_record
from delivery_log import contract as ledger
from delivery_log.contract import DeliveryLedger, LedgerUnavailable, ReadUpTo
from schemas.topics import Topics

_REPORTED_WITHIN = 15.0
_REST_PER_WORK = 20


class SweptPlatform(msgspec.Struct, frozen=True):
    """A platform's way: how many partitions its topics have, and the delays (seconds) of its retry topics."""

    platform: str
    ordered: bool
    topic: str
    retry_topics: Mapping[float, str]


class Sweeper:
    """Runs in every worker; the ledger lets one at a time do it."""

    def __init__(
        self,
        *,
        ledger: DeliveryLedger,
        publication: Publication,
        topics: Topics,
        platforms: Sequence[SweptPlatform],
        observer: Observer,
        interval: float = 1.0,
        grace: float = 5.0,
        slack: float = 2.0,
        at_once: int = 500,
    ) -> None:
        self._ledger = ledger
        self._publication = publication
        self._topics = topics
        self._platforms = platforms
        self._observer = observer
        self._interval = interval
        self._grace = grace
        self._slack = slack
        self._at_once = at_once
        self._partitions: dict[str, int] = {}

    def know_partitions(self, topic: str, count: int) -> None:
        """How many partitions a topic has: only where all of them report is a record known to be gone."""
        self._partitions[topic] = count

    async def run(self) -> None:
        """Until cancelled."""
        took = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            # A backlog makes a turn dear, and there is seldom anything to find: it may cost a twentieth of a core.
            await asyncio.sleep(max(self._interval, _REST_PER_WORK * took))
            started = clock()
            try:
                while await self.sweep() == self._at_once:
                    started = clock()
                took = clock() - started
            except LedgerUnavailable as error:
                self._observer.notice(Trouble("sweep", str(error)))

    async def sweep(self) -> int:
        """One turn; how many rows were published again."""
        read_up_to = await self._read_up_to()
        swept = await self._ledger.sweep(
            read_up_to,
            ordered=[platform.platform for platform in self._platforms if platform.ordered],
            # What is still on its way to the broker, or its confirmation to the ledger, is not lost.
            grace=self._grace + 2 * self._publication.lag,
            limit=self._at_once,
        )
        await self._publication.publish([self._record(item) for item in swept])
        for item in swept:
            self._observer.notice(Swept(item.request.platform, item.request.delivery_id, item.reason))
        return len(swept)

    def _record(self, item: ledger.Swept) -> OutgoingRecord:
        if item.reason == "unannounced":
            return lost_dead_letter(item, self._topics)
        return request_record(item.request, self._topics)

    async def _read_up_to(self) -> list[ReadUpTo]:
        topics = [topic for platform in self._platforms for topic in (platform.topic, *platform.retry_topics.values())]
        progress = await self._ledger.read_progress(topics, within=_REPORTED_WITHIN)
        answer = []
        for platform in self._platforms:
            direct = self._oldest(platform.topic, progress)
            answer.append(ReadUpTo(platform=platform.platform, delay=0.0, age=direct))
            for delay, topic in platform.retry_topics.items():
                # Published to the retry topic, waited its delay there, then published to the platform's topic.
                age = max(direct + delay, self._oldest(topic, progress))
                answer.append(ReadUpTo(platform=platform.platform, delay=delay, age=age))
        return answer

    def _oldest(self, topic: str, progress: Mapping[tuple[str, int], float]) -> float:
        """How far back the slowest partition is; endless where one of them does not report."""
        count = self._partitions.get(topic, 0)
        ages = [progress.get((topic, partition)) for partition in range(count)]
        known = [age for age in ages if age is not None]
        return max(known) + self._slack if count and len(known) == count else _ENDLESS


_ENDLESS = 10.0 * 365 * 24 * 3600
