"""The two places where Faust's own consumer has to be helped. Both reach into its internals: the version is pinned, and
`tests/streams/test_faust_internals.py` fails when what they rely on changes."""

import asyncio
from typing import Any

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        consumer = super()._create_consumer(loop=loop)
        # Hard-coded by Faust to 1,500 ms. Apache Kafka answers a waiting fetch as soon as there is data; the embedded
        # broker does not, and there this wait is the latency.
        consumer._fetch_max_wait_ms = round(self.app.fetch_wait * 1000)
        return consumer


class _Consumer(Consumer):
    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(Transport):
    Consumer = _Consumer


class StreamApp(faust.App):
    """`faust.App` with our consumer. `fetch_wait`: seconds a fetch waits for data."""

    fetch_wait: float = 1.5

    def _new_transport(self) -> Transport:
        return _Transport(self.conf.broker_consumer, self, loop=self.loop)
