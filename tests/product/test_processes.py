"""`worker --processes N`, and a worker that is stuck, on Apache Kafka."""

import asyncio
import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from impact_in.local_stack.ports import free_port
from tests.local_stack.processes import alive, descendants
from tests.product.command_line import Running, ask, environment, rows, states
from tests.product.sick_worker import PATIENCE
from tests.product.test_given_servers import PLATFORMS, SECRETS, SETTINGS, House
from tests.servers import eventually
from tests.servers.kafka import KafkaServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(200)]
SICK_WORKER = (sys.executable, "-P", "-m", "tests.product.sick_worker")
ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def house(
    kafka_bootstrap: str, database_url: str, redis_url: str, topic_prefix: str, tmp_path: Path
) -> Iterator[House]:
    servers = {"KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap, "DATABASE_URL": database_url, "REDIS_URL": redis_url}
    env = environment(**servers, **SETTINGS, **SECRETS, IMPACT_IN_TOPIC_PREFIX=topic_prefix)
    env["PYTHONPATH"] = os.pathsep.join([ROOT, env.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with ExitStack() as stack:
        yield House(env, tmp_path, stack)


async def ready(worker: Running, url: str) -> None:
    def is_ready() -> bool:
        assert worker.status is None, worker.err
        return status(url, "ready") == 200

    await eventually(is_ready, timeout=90, what="the worker is ready")


def status(url: str, what: str) -> int | None:
    try:
        return ask(f"{url}/health/{what}")[0]
    except OSError:
        return None


async def processes(house: House, count: int = 2, **variables: str) -> tuple[Running, str]:
    port = free_port()
    worker = house.run("worker", "--processes", str(count), IMPACT_IN_WORKER_PORT=str(port), **variables)
    await ready(worker, f"http://127.0.0.1:{port}")
    return worker, f"http://127.0.0.1:{port}"


def metrics(url: str, name: str) -> list[float]:
    """All values of a metric that has labels."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return [float(value) for value in re.findall(rf"^impact_in_{name}\{{.*\}} (\S+)$", text, re.M)]


def delivered_by_metrics(url: str) -> float:
    return sum(metrics(url, "deliveries_success_total"))


def children_of(worker: Running) -> set[int]:
    return set(alive(descendants(worker.pid))) - {worker.pid}


async def test_several_processes_share_the_work_and_one_that_is_killed_is_started_again(house: House) -> None:
    await house.set_up()
    for platform in PLATFORMS:
        house.done("platforms", "set", platform, "--unlimited")
    worker, url = await processes(house, IMPACT_IN_INSTANCE="w1")
    house.publish(60)
    await house.delivered(60)
    await eventually(lambda: delivered_by_metrics(url) == 180, timeout=20, what="the metrics of both are summed")
    await eventually(lambda: metrics(url, "consumer_lag") == [0.0] * 7, timeout=20, what="all topics' lag is shown")
    await eventually(lambda: metrics(url, "retry_queue_depth") == [0.0] * 3, timeout=20, what="the ledger was asked")
    answer = ask(f"{url}/health/ready")[1]
    assert set(answer["processes"]) == {"0", "1"}
    assert all(len(one["roles"]) == 4 for one in answer["processes"].values())

    before = children_of(worker)
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    await worker.says("worker.process_ended")
    assert status(url, "ready") == 503
    await ready(worker, url)
    after = children_of(worker)
    assert len(after) == 2
    assert len(after & before) == 1
    assert delivered_by_metrics(url) == 180  # what the dead one had counted is not forgotten

    house.publish(60)
    await house.delivered(120)
    assert house.platforms.effects() == dict.fromkeys(PLATFORMS, 120)
    await house.everything_is_committed()
    assert await worker.stop(timeout=60) == 0
    assert not set(alive(after))


async def test_what_one_process_holds_the_other_holds_too(house: House) -> None:
    await house.set_up()
    house.env["GOODERA_API_KEY"] = "wrong"
    house.done("platforms", "set", "benevity", "--unlimited")
    worker, _ = await processes(house)
    house.publish(3)  # so few that one of the two may have none of them

    async def one_hold() -> bool:
        held = "select from platform_holds where reason = 'credentials' and held_until > now() - interval '2 seconds'"
        return len(await rows(house.database, f"{held} and released_at is null")) == 1

    await eventually(one_hold, timeout=60, what="both hold it as one")
    await asyncio.sleep(1.0)  # the time that the other has to hear of it
    asked = house.platforms.received("goodera")["requests"]
    house.publish(60)
    await house.delivered(63, "benevity")
    assert house.platforms.received("goodera")["requests"] - asked <= 1  # a probe
    assert await worker.stop(timeout=60) == 0


async def test_no_process_outlives_its_parent_and_a_second_signal_ends_all_at_once(house: House) -> None:
    await house.set_up("--latency-ms", "20000")
    worker, _ = await processes(house)
    children = children_of(worker)
    worker.send(signal.SIGKILL)
    await worker.ended(timeout=10)
    await eventually(lambda: not alive(children), timeout=10, what="the children are gone")

    worker, _ = await processes(house)
    children = children_of(worker)
    house.publish(12)
    await eventually(lambda: house.platforms.received("goodera")["requests"] > 0, timeout=60, what="a request is sent")
    worker.send(signal.SIGTERM)
    await worker.says("worker.stopping")
    worker.send(signal.SIGTERM)
    assert await worker.ended(timeout=5) != 0
    await eventually(lambda: not alive(children), timeout=5, what="the children are gone")


async def sick(house: House, kind: str) -> tuple[Running, str]:
    port = free_port()
    env = house.env | {"IMPACT_IN_WORKER_PORT": str(port)}
    worker = house._stack.enter_context(Running(kind, env=env, cwd=house.cwd, command=SICK_WORKER))
    await ready(worker, f"http://127.0.0.1:{port}")
    return worker, f"http://127.0.0.1:{port}"


async def test_a_worker_whose_loop_is_stuck_is_not_alive_and_ends(house: House) -> None:
    await house.set_up()
    worker, url = await sick(house, "loop")
    assert status(url, "live") == 200
    worker.send(signal.SIGUSR1)
    await eventually(lambda: status(url, "live") == 503, timeout=10, what="it is not alive")
    assert await worker.ended(timeout=20) == 1
    assert "worker.stuck" in worker.err
    assert "no tick of the event loop" in worker.err


async def test_a_worker_whose_records_no_longer_move_ends(house: House) -> None:
    await house.set_up()
    worker, _ = await sick(house, "consumer")
    worker.send(signal.SIGUSR1)
    house.publish(3)
    assert await worker.ended(timeout=60) == 1
    assert "worker.crashed" in worker.err
    assert "records are in hand and none is finished" in worker.err


async def test_what_is_held_or_waits_for_a_server_is_not_stuck(house: House, kafka_server: KafkaServer) -> None:
    await house.set_up()
    house.done("platforms", "pause", "benevity")
    worker, url = await sick(house, "well")
    house.publish(6)
    await house.delivered(6, "goodera", "workday")
    lives: set[Any] = set()

    async def for_longer_than_its_patience(what: str) -> None:
        until = time.monotonic() + 2.5 * PATIENCE.stalled

        def over() -> bool:
            lives.add(status(url, "live"))
            return time.monotonic() >= until

        await eventually(over, timeout=60, what=what)

    await for_longer_than_its_patience("time passes while a platform is paused")
    kafka_server.pause()
    await for_longer_than_its_patience("time passes without Kafka")
    kafka_server.resume()
    assert lives == {200}
    assert worker.status is None
    house.done("platforms", "resume", "benevity")
    await house.delivered(6)
    assert (await states(house.database))["benevity", "delivered"] == 6
    assert await worker.stop(timeout=60) == 0
