"""Faults of the broker."""

import asyncio
import time

from aiokafka.admin import AIOKafkaAdminClient

from impact_in.demo.stage import DELAYS
from proving.cluster import second_node
from proving.row import Row
from proving.trial import Conditions, Trial, Unmet

_THROUGH = Conditions(through=("kafka",))
_UNREACHABLE_SECONDS = 60.0


async def _killed(trial: Trial) -> None:
    await trial.start()
    await trial.publish(0.0, 0.6)
    await trial.flowing(0.1)
    trial.ground.kafka.kill()
    trial.fired("SIGKILL to the broker, away for 3 s and its start")
    await asyncio.sleep(3.0)
    await trial.ground.kafka.start()
    trial.lifted()
    await trial.publish(0.6, 1.0)


async def _unreachable(trial: Trial) -> None:
    """Every connection is cut and none is taken for 60 s. The worker goes on by itself, in bounded memory."""
    worker = await trial.start()
    await trial.publish(0.0, 0.8)
    await trial.flowing(0.1)
    before = trial.rss_mib(worker)
    await trial.ground.road("kafka", "refuse")
    await asyncio.sleep(_UNREACHABLE_SECONDS)
    told = await trial.ground.road("kafka", "pass")
    trial.lifted()
    after = trial.rss_mib(worker)
    trial.fired(
        f"{told['cut']} connections cut, {told['refused']} refused in 60 s; memory {before:.0f} to {after:.0f} MiB"
    )
    if worker.returncode is not None:
        raise Unmet(f"the worker did not outlive it: {await worker.epitaph()}")
    if not told["refused"] or after > before + 150:
        raise Unmet(trial.evidence[-1])
    await trial.publish(0.8, 1.0)


async def _leader_moved(trial: Trial) -> None:
    """A second broker leads half of the partitions, and dies; then it comes back and leads again."""
    async with second_node(trial.ground) as node:
        await node.replicate(trial.topics, trial.connection)
        await trial.start()
        await trial.publish(0.0, 0.6)
        await trial.flowing(0.15)
        led = await node.leads(trial.topics.metrics)
        node.kill()
        await trial.until(lambda: node.leads_nothing(trial.topics), 30.0, "its partitions have another leader")
        trial.fired(f"the leader of {len(led)} of 6 partitions of each topic killed; all moved to the other broker")
        trial.lifted()
        await trial.publish(0.6, 1.0)
        await trial.verdict()


async def _topic_missing(trial: Trial) -> None:
    """At the start: the worker ends within 5 s, naming topic and command. In full flow: retry and dead-letter topics
    are deleted, and made again; what was in them is in the ledger."""
    admin = AIOKafkaAdminClient(**trial.connection.for_aiokafka())
    await admin.start()
    try:
        retries = [trial.topics.retry(platform, DELAYS[0]) for platform in trial.platform_urls]
        await admin.delete_topics(retries)
        await trial.until(lambda: trial.topics_gone(retries), 20.0, "the topics are gone")
        began = time.monotonic()
        worker = await trial.start(ready=False)
        status = await asyncio.wait_for(worker.wait(), 15.0)
        took, said = time.monotonic() - began, await worker.epitaph()
        if status == 0 or not any(topic in said for topic in retries) or "impact-in topics" not in said:
            raise Unmet(f"a missing topic: {said}")
        trial.fired(f"ended with {status} after {took:.1f} s, naming the topic")
        await trial.make_topics()
        await trial.start()
        await trial.publish(0.0, 0.5)
        await trial.flowing(0.1)
        await admin.delete_topics(retries)
        await trial.until(lambda: trial.topics_gone(retries), 20.0, "the topics are gone")
        await asyncio.sleep(2.0)
        await trial.make_topics()
        trial.fired(f"{len(retries)} retry topics deleted in full flow, made again")
        trial.lifted()
    finally:
        await admin.close()
    await trial.publish(0.5, 1.0)


async def _slow(trial: Trial) -> None:
    await trial.ground.road("kafka", "latency 0.15")
    await trial.start()
    await trial.publish(0.0, 1.0)
    await trial.flowing(0.5, timeout=120.0)
    trial.fired("150 ms each way on every connection")
    await trial.ground.road("kafka", "pass")
    trial.lifted()


async def _reply_lost(trial: Trial) -> None:
    await trial.start()
    await trial.publish(0.0, 0.6)
    await trial.flowing(0.05)
    await trial.lose_replies("kafka", 12, 9, "requests reached the broker")
    await trial.publish(0.6, 1.0)


ROWS = (
    Row(area="Kafka", fault="broker killed", run=_killed),
    Row(area="Kafka", fault="unreachable for 60 s", run=_unreachable, conditions=_THROUGH, timeout=200.0),
    Row(area="Kafka", fault="leader moved", run=_leader_moved, timeout=200.0),
    Row(area="Kafka", fault="topic missing", run=_topic_missing),
    Row(area="Kafka", fault="slow", run=_slow, conditions=_THROUGH),
    Row(area="Kafka", fault="a reply lost", run=_reply_lost, conditions=_THROUGH),
)
