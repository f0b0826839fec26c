"""What streams/ relies on inside Faust and aiokafka. A failure here means: read the changed source, then the code in
streams/ that names it, before anything else."""

import hashlib
import inspect

import aiokafka.consumer.fetcher
import aiokafka.consumer.subscription_state
import faust
import pytest
from faust.app.base import App
from faust.transport import conductor as conductor_module
from faust.transport import consumer as consumer_module
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

pytestmark = pytest.mark.fast

# Of the source text. Where one changes, look at what streams/ makes of it, then update the line.
RELIED_ON = {
    "acks: appended by offset, committed up to the first gap": (consumer_module.Consumer.ack, "5fcf41cf"),
    "commit: what _new_offset makes of the acked": (consumer_module.Consumer._new_offset, "1d2c7ea8"),
    "read offset: set once a record is in the channel": (consumer_module.Consumer._drain_messages, "44a25003"),
    "the conductor: what a record's callback may wait for": (conductor_module.ConductorCompiler.build, "837cf521"),
    "getmany: stops at a suspended flow and at another generation": (consumer_module.Consumer.getmany, "4b168d84"),
    "revocation forgets the acks": (consumer_module.Consumer.on_partitions_revoked, "d04b7ae7"),
    "the consumer that we reach into for fetch_max_wait_ms": (
        AIOKafkaConsumerThread._create_worker_consumer,
        "c2701bfc",
    ),
    "on_before_shutdown comes after the flow has stopped, and before the last commit": (App.on_stop, "bfe5a933"),
    "a rebalance of an app that stops closes the client, perhaps under a commit": (
        App._on_rebalance_when_stopped,
        "1b172d9a",
    ),
    "high watermark and poll time are set by a fetch": (
        aiokafka.consumer.fetcher.Fetcher._proc_fetch_request,
        "59bf948f",
    ),
}


def fingerprint(function: object) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:8]  # type: ignore[arg-type]


def test_faust_is_the_version_that_was_read() -> None:
    assert faust.__version__ == "0.15.3"


@pytest.mark.parametrize("what", RELIED_ON)
def test_the_source_relied_on_is_the_source_that_was_read(what: str) -> None:
    function, expected = RELIED_ON[what]
    assert fingerprint(function) == expected
