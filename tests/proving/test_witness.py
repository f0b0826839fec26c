"""The witness: two personalities, a receipt on disk before each answer, faults that anybody can compute."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from impact_in.simulators.faults import final_fault, transient_fault
from tests.simulators import bodies

pytestmark = pytest.mark.fast


@asynccontextmanager
async def witness(receipts: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proving.witness", "--receipts", str(receipts), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            ready = json.loads(await process.stdout.readline())
        yield process, ready["platforms"]["benevity"]["url"] + bodies.BENEVITY
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def post(session: aiohttp.ClientSession, url: str, key: str) -> tuple[int, bytes]:
    async with session.post(url, json=bodies.benevity(), headers=bodies.headers("benevity", key)) as answer:
        return answer.status, await answer.read()


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize(("personality", "effects"), [("keys", 1), ("counts", 2)])
async def test_the_same_key_again(tmp_path: Path, personality: str, effects: int) -> None:
    path = tmp_path / "receipts.jsonl"
    async with witness(path, "--personality", personality) as (_, url), aiohttp.ClientSession() as session:
        answers = [await post(session, url, "k"), await post(session, url, "k")]
    assert [status for status, _ in answers] == [200, 200]
    assert (answers[0] == answers[1]) is (personality == "keys")
    assert sum(receipt["effect"] for receipt in written(path)) == effects


async def test_after_sigkill_every_answer_that_a_client_saw_has_its_receipt(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    answered: set[str] = set()
    async with witness(path, "--answer-ms", "0") as (process, url), aiohttp.ClientSession() as session:

        async def keep_asking(client: int) -> None:
            number = 0
            while True:
                key = f"{client}-{number}"
                number += 1
                if (await post(session, url, key))[0] == 200:
                    answered.add(key)
                if len(answered) >= 300 and process.returncode is None:
                    process.kill()

        results = await asyncio.gather(*(keep_asking(client) for client in range(20)), return_exceptions=True)
    assert all(isinstance(result, aiohttp.ClientError) for result in results)
    receipts = {receipt["key"] for receipt in written(path) if receipt["effect"]}
    assert len(answered) >= 300
    assert answered <= receipts


async def test_faults_follow_from_seed_key_and_attempt_in_whatever_order_requests_come(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    async with witness(path, "--faults", "many", "--seed", "7") as (_, url), aiohttp.ClientSession() as session:
        for attempt in (1, 2):
            keys = [f"k{number}" for number in range(150)]
            for key in keys if attempt == 1 else reversed(keys):
                try:
                    await post(session, url, key)
                except aiohttp.ClientError:
                    continue
    receipts = written(path)
    assert len(receipts) == 300
    had_effect: set[str] = set()
    for receipt in receipts:
        key = receipt["key"]
        refused = None if key in had_effect else final_fault("many", 7, key)
        assert receipt["fault"] == (transient_fault("many", 7, key, receipt["attempt"]) or refused) or refused
        had_effect |= {key} if receipt["effect"] else set()
    assert any(receipt["fault"] for receipt in receipts)
