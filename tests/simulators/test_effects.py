"""Effects: once a key, exact, and on disk before anybody hears of them."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from impact_in.simulators.receipt_file import ReceiptFile, ReceiptsLost
from tests.simulators import bodies
from tests.simulators.conftest import Simulated, Start

pytestmark = pytest.mark.fast


async def test_the_same_key_gets_the_same_answer_and_no_second_effect(benevity: Simulated) -> None:
    first = await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k")
    again = await benevity.post(bodies.BENEVITY, bodies.benevity(), key="k")
    assert first.json["success"] is True
    assert again.raw == first.raw
    found = await benevity.received()
    assert (found["requests"], found["effects"]) == (2, 1)
    assert found["sums"] == {"volunteer_hours": "12.5", "outcome_score/integration": "0.5"}
    history = found["keys"]["k"]
    assert (history["requests"], history["effects"]) == (2, 1)
    assert history["transactionId"] == first.json["transactionId"]
    assert history["organizationId"] == "org-1"
    assert history["amounts"] == [["volunteer_hours", "12.5"], ["outcome_score/integration", "0.5"]]
    assert len(history["bodySha256s"]) == 1


async def test_requests_at_once_with_one_key_have_one_effect(start: Start, tmp_path: Path) -> None:
    simulated = (await start("--platform", "benevity", "--receipts", str(tmp_path / "r")))["benevity"]
    answers = await asyncio.gather(*(simulated.post(bodies.BENEVITY, bodies.benevity(), key="k") for _ in range(20)))
    assert len({answer.raw for answer in answers}) == 1
    assert (await simulated.received())["effects"] == 1


async def test_a_key_that_comes_with_another_body_is_a_violation(benevity: Simulated) -> None:
    first = await benevity.post(bodies.BENEVITY, bodies.benevity(hours=1), key="k")
    again = await benevity.post(bodies.BENEVITY, bodies.benevity(hours=2), key="k")
    assert again.raw == first.raw
    found = await benevity.received()
    assert found["sums"]["volunteer_hours"] == "1"
    assert len(found["keys"]["k"]["bodySha256s"]) == 2
    assert [seen["reason"] for seen in found["violations"]] == ["Idempotency-Key: came before with another body"]


async def test_without_honour_every_request_is_an_effect(start: Start) -> None:
    platforms = await start("--no-honour-keys")
    simulated = platforms["workday"]
    body = bodies.workday()
    first, again = [await simulated.post(bodies.WORKDAY, body, key="k") for _ in range(2)]
    assert first.json["transactionId"] != again.json["transactionId"]
    found = await simulated.received()
    assert (found["effects"], found["keys"]["k"]["effects"]) == (2, 2)
    assert found["sums"]["volunteer/volunteerHours"] == "25.0"


async def test_amounts_add_up_exactly(benevity: Simulated) -> None:
    for hours in (0.1, 0.2, 99999999999999, 0.0001):
        raw = json.dumps(bodies.benevity(hours=hours)).encode()
        assert (await benevity.post(bodies.BENEVITY, raw)).status == 200
    found = await benevity.received()
    assert found["sums"]["volunteer_hours"] == "99999999999999.3001"
    assert found["sumsByOrganization"]["org-1"]["volunteer_hours"] == "99999999999999.3001"


async def test_a_batch_is_one_effect_of_many_records(goodera: Simulated) -> None:
    records = [bodies.goodera(f"org-{number % 2}", number) for number in range(1, 4)]
    answer = await goodera.post(bodies.GOODERA_BATCH, {"records": records}, key="k")
    assert answer.json["batchId"].startswith("GDB-")
    assert answer.json["recordsProcessed"] == 3
    assert [entry["success"] for entry in answer.json["results"]] == [True] * 3
    found = await goodera.received()
    assert (found["effects"], found["records"]) == (1, 3)
    assert found["sums"] == {"volunteer_hours": "6", "trees": "21"}
    assert found["sumsByOrganization"]["org-1"]["volunteer_hours"] == "4"
    assert found["keys"]["k"]["organizationId"] is None


async def test_a_record_that_fails_in_a_batch_has_no_effect(goodera: Simulated) -> None:
    records = [bodies.goodera(f"org-{number}", number) for number in range(1, 4)]
    answer = await goodera.post(bodies.GOODERA_BATCH, {"records": records}, key="k", X_Simulate_Fault="partial")
    assert [entry["success"] for entry in answer.json["results"]] == [True, True, False]
    assert answer.json["results"][2]["errorCode"] == "DIMENSION_INVALID"
    found = await goodera.received()
    assert (found["records"], found["sums"]["volunteer_hours"]) == (2, "3")
    assert "org-3" not in found["sumsByOrganization"]
    assert found["keys"]["k"]["amounts"] == [
        ["volunteer_hours", "1"],
        ["trees", "7"],
        ["volunteer_hours", "2"],
        ["trees", "7"],
    ]


async def test_an_activity_that_is_there_already_is_a_duplicate_under_any_key(workday: Simulated) -> None:
    body = bodies.workday(activity="activity-1")
    assert (await workday.post(bodies.WORKDAY, body, key="one")).status == 200
    answer = await workday.post(bodies.WORKDAY, body, key="two")
    assert (answer.status, answer.json["errorCode"]) == (409, "DUPLICATE_ACTIVITY")
    assert (await workday.post(bodies.WORKDAY, body, key="one")).status == 200
    found = await workday.received()
    assert (found["effects"], found["keys"]["two"]["effects"]) == (1, 0)


async def test_the_receipt_is_synced_before_the_answer(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "receipts.jsonl"
    synced: list[int] = []
    really = os.fdatasync

    def fdatasync(descriptor: int) -> None:
        really(descriptor)
        synced.append(path.read_bytes().count(b"\n"))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    simulated = (await start("--platform", "benevity", "--receipts", str(path)))["benevity"]
    for number in range(1, 4):
        answer = await simulated.post(bodies.BENEVITY, bodies.benevity(), key=f"k{number}")
        assert synced[-1] == number  # known to be on disk once the answer is here
    last = json.loads(path.read_text().splitlines()[-1])
    assert last.pop("at").endswith("Z")
    assert json.loads(last.pop("answer")) == answer.json
    assert len(last.pop("bodySha256")) == 64
    assert last == {
        "n": 3,
        "platform": "benevity",
        "path": "/v1/impact",
        "key": "k3",
        "organizationId": "org-1",
        "effect": True,
        "status": 200,
        "fault": None,
        "attempt": 1,
        "amounts": [["volunteer_hours", "12.5"], ["outcome_score/integration", "0.5"]],
        "eventRefs": ["program-1"],
        "transactionId": answer.json["transactionId"],
        "rejected": False,
    }


async def test_a_receipt_that_cannot_be_written_is_never_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = asyncio.Event()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async with ReceiptFile(tmp_path / "r", on_loss=lost.set) as receipts:
        monkeypatch.setattr(os, "fdatasync", full)
        with pytest.raises(ReceiptsLost):
            await receipts.write(b"{}\n")
    assert lost.is_set()


async def test_a_simulator_goes_on_from_its_receipts(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    before = (await start("--platform", "workday", "--receipts", str(path)))["workday"]
    body = bodies.workday(activity="activity-1")
    first = await before.post(bodies.WORKDAY, body, key="k")
    copy = tmp_path / "after-the-crash.jsonl"
    copy.write_bytes(path.read_bytes() + b'{"n": 2, "platform": "work')  # cut off, so never answered
    after = (await start("--platform", "workday", "--receipts", str(copy)))["workday"]
    assert (await after.post(bodies.WORKDAY, body, key="k")).raw == first.raw
    assert (await after.post(bodies.WORKDAY, body, key="other")).status == 409
    found = await after.received()
    assert (found["requests"], found["effects"]) == (3, 1)
    assert [json.loads(line)["n"] for line in copy.read_text().splitlines()] == [1, 2, 3]


async def test_two_simulators_do_not_share_a_file(tmp_path: Path) -> None:
    async with ReceiptFile(tmp_path / "r"):
        with pytest.raises(BlockingIOError):
            ReceiptFile(tmp_path / "r")


async def test_receipts_come_in_pages(benevity: Simulated) -> None:
    for _ in range(3):
        await benevity.post(bodies.BENEVITY, bodies.benevity())
    page = (await benevity.request("GET", "/_received/requests?after=0&limit=2")).json
    assert ([item["n"] for item in page["items"]], page["next"]) == ([1, 2], 2)
    page = (await benevity.request("GET", "/_received/requests?after=2&limit=2")).json
    assert ([item["n"] for item in page["items"]], page["next"]) == ([3], None)
    assert (await benevity.request("GET", "/_received/requests?after=-1")).status == 400
    assert "keys" not in (await benevity.request("GET", "/_received?keys=0")).json


async def test_health_is_told(benevity: Simulated) -> None:
    expected = {"status": "healthy", "platform": "benevity"}
    assert (await benevity.request("GET", "/_health")).json == expected
    assert (await benevity.request("GET", "/v1/health")).status == 401
    key = {"Authorization": "Bearer simulated-benevity-key"}
    assert (await benevity.request("GET", "/v1/health", headers=key)).status == 200
