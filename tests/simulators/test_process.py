"""The process: starts, says where it listens, and never outlives whoever asked for it."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from impact_in.simulators.options import parse
from tests.servers.waiting import eventually
from tests.simulators import bodies

pytestmark = pytest.mark.fast
COMMAND = (sys.executable, "-m", "impact_in.simulators")


async def _start(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )


async def _ready(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return json.loads(await process.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_ends_within_a_second(number: signal.Signals) -> None:
    process = await _start(GOODERA_API_KEY="a-key-of-ours")
    ready = await _ready(process)
    assert (ready["ready"], ready["pid"]) == (True, process.pid)
    platforms = ready["platforms"]
    assert platforms["benevity"]["env"]["BENEVITY_WEBHOOK_URL"] == platforms["benevity"]["url"] + "/v1/impact"
    assert platforms["goodera"]["env"] == {"GOODERA_API_URL": platforms["goodera"]["url"] + "/v1"}
    assert platforms["workday"]["env"]["WORKDAY_API_URL"] == platforms["workday"]["url"] + "/ccx/service"
    async with aiohttp.ClientSession() as session:
        for platform in platforms.values():
            async with session.get(platform["url"] + "/_health") as answer:
                assert answer.status == 200
        loop = asyncio.get_running_loop()
        asked = loop.time()
        process.send_signal(number)
        out, err = await process.communicate()
    assert loop.time() - asked < 1
    assert process.returncode == 0
    assert out == b""  # the one line was all
    assert b"a-key-of-ours" not in err


async def test_it_ends_within_a_second_while_requests_hang_everywhere() -> None:
    process = await _start()
    platforms = (await _ready(process))["platforms"]
    paths = {"benevity": bodies.BENEVITY, "goodera": bodies.GOODERA, "workday": bodies.WORKDAY}
    async with aiohttp.ClientSession() as session:
        hanging = []
        for name, path in paths.items():
            url = platforms[name]["url"]
            await (await session.post(url + "/_faults", json={"outage": "timeout"})).read()
            hanging.append(asyncio.create_task(session.post(url + path, data=b"")))

            async def arrived(url: str = url) -> bool:
                async with session.get(url + "/_received?keys=0") as answer:
                    return bool((await answer.json())["requests"] == 1)

            await eventually(arrived)
        process.terminate()
        async with asyncio.timeout(1):
            assert await process.wait() == 0
        answers = await asyncio.gather(*hanging, return_exceptions=True)
    assert all(isinstance(answer, aiohttp.ClientError) for answer in answers)


async def test_it_ends_with_its_parent() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"import subprocess; subprocess.run({[*COMMAND, '--platform', 'workday']!r})",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    ready = await _ready(parent)
    assert ready["pid"] != parent.pid
    parent.kill()
    assert parent.stdout is not None
    async with asyncio.timeout(5):
        assert await parent.stdout.read() == b""  # the end of the pipe: its last writer is gone


async def test_receipts_survive_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    arguments = ("--platform", "benevity", "--receipts", str(path))
    process = await _start(*arguments)
    url = (await _ready(process))["platforms"]["benevity"]["url"] + bodies.BENEVITY
    async with aiohttp.ClientSession() as session:
        sent: dict[str, Any] = {"json": bodies.benevity(), "headers": bodies.headers("benevity", "k")}
        async with session.post(url, **sent) as answer:
            first = await answer.read()
        process.kill()
        await process.communicate()
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["k"]
        process = await _start(*arguments)
        url = (await _ready(process))["platforms"]["benevity"]["url"] + bodies.BENEVITY
        async with session.post(url, **sent) as answer:
            assert await answer.read() == first
    process.terminate()
    await process.communicate()


async def test_a_file_that_holds_no_receipts_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not\nours\n")
    process = await _start("--receipts", str(path))
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"not a file of receipts" in err
    assert path.read_text() == "not\nours\n"


async def test_a_port_in_use_is_said_in_a_line() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        process = await _start("--platform", "goodera", "--port-goodera", str(port))
        out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert str(port).encode() in err
    assert b"Traceback" not in err


def test_the_environment_gives_credentials_and_the_command_line_overrules_it() -> None:
    environment = {"BENEVITY_API_KEY": "from-environment", "WORKDAY_TENANT_ID": "acme"}
    assert parse([], environment).secrets["benevity_api_key"] == "from-environment"
    assert parse([], environment).secrets["workday_tenant"] == "acme"
    assert parse(["--benevity-api-key", "given"], environment).secrets["benevity_api_key"] == "given"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--platform", "sap"],
        ["--port-benevity", "70000"],
        ["--host", "example.org"],
        ["--webhook-url", "ftp://x"],
        ["--reject-share", "2"],
        ["--reject-share", "nan"],
        ["--latency-ms", "-1"],
        ["--token-lifetime", "0"],
        ["--benevity-webhook-secret", "whsec_*"],
    ],
)
def test_a_wrong_option_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, {})
    assert ended.value.code == 2
    assert "whsec_*" not in capsys.readouterr().err
