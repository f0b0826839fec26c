"""The commands that look into the ledger and say which companies go where, on PostgreSQL."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from delivery_log.contract import Arrival, AttemptRow, CompanyPlatform, DeliveryRow, StatusRow
from delivery_log.postgres.companies import PostgresCompanyRegistry
from delivery_log.postgres.database import Database
from delivery_log.postgres.ledger import PostgresLedger
from delivery_log.postgres.migrations import migrations
from impact_in.operations.companies import CompanyError, entry, read_companies
from schemas.identity import delivery_id
from schemas.trace import new_traceparent, trace_id
from tests.impact_in.conftest import Command, Ended

EXAMPLES = Path(__file__).parents[2] / "examples"
COMPANY = "11111111-1111-4111-8111-111111111111"
TRACE = new_traceparent()


@pytest.fixture
def database(environment: pytest.MonkeyPatch, database_url: str) -> str:
    environment.setenv("DATABASE_URL", database_url)
    return database_url


@pytest.fixture
def migrated(impact_in: Command, database: str) -> str:
    assert impact_in("migrate").status == 0
    return database


def objects(ended: Ended) -> list[dict[str, Any]]:
    assert (ended.status, ended.err) == (0, "")
    answer = json.loads(ended.out)
    assert answer.keys() == {"items", "nextCursor"}
    items: list[dict[str, Any]] = answer["items"]
    return items


def deliver_to_two_platforms(url: str, *events: UUID) -> None:
    async def record() -> None:
        async with await Database.open(url) as database:
            both = [
                CompanyPlatform(company_id=UUID(COMPANY), platform=platform, organization_id=f"at-{platform}")
                for platform in ("benevity", "goodera")
            ]
            await PostgresCompanyRegistry(database).set_company_platforms(both)
            for event in events:
                arrival = Arrival(
                    event_id=event,
                    company_id=UUID(COMPANY),
                    content_hash=event.hex * 2,
                    body=b"body",
                    traceparent=TRACE,
                    platforms=("benevity", "goodera"),
                )
                await PostgresLedger(database).record_events([arrival])

    asyncio.run(record())


def test_migrate_lists_what_it_applied_and_then_nothing(impact_in: Command, database: str) -> None:
    first = impact_in("migrate")
    assert first.status == 0
    assert first.out.splitlines() == [migration.name for migration in migrations()]
    again = impact_in("migrate")
    assert (again.status, again.out) == (0, "")
    assert objects(impact_in("migrate", "--json")) == []


@pytest.mark.parametrize("arguments", [("companies", "list"), ("deliveries", "list"), ("companies", "import", "-")])
def test_a_database_that_is_not_migrated_is_said_to_be(
    impact_in: Command, database: str, arguments: tuple[str, ...]
) -> None:
    ended = impact_in(*arguments)
    assert ended.status == 1
    assert ended.err == f"impact-in: the database lacks migration {migrations()[0].name}; run `impact-in migrate`\n"


def test_a_company_is_set_listed_and_disabled(impact_in: Command, migrated: str) -> None:
    assert objects(impact_in("companies", "list", "--json")) == []
    goodera = ("companies", "set", COMPANY, "--platform", "goodera", "--organization")
    assert impact_in(*goodera, "org-17").status == 0
    assert impact_in("companies", "set", COMPANY, "--platform", "benevity", "--organization", "[b] ü").status == 0
    first = {"companyId": COMPANY, "platform": "benevity", "organizationId": "[b] ü", "enabled": True}
    second = {"companyId": COMPANY, "platform": "goodera", "organizationId": "org-17", "enabled": True}
    assert objects(impact_in("companies", "list", "--json")) == [first, second]
    disabled = impact_in(*goodera, "org-18", "--disable")
    assert (disabled.status, disabled.out) == (0, "")
    assert disabled.err == f"{COMPANY} on goodera: org-18 (disabled)\n"
    second |= {"organizationId": "org-18", "enabled": False}
    assert objects(impact_in("companies", "list", "--json", "--company", COMPANY)) == [first, second]
    assert objects(impact_in("companies", "list", "--json", "--company", str(uuid4()))) == []
    table = impact_in("companies", "list").out
    assert "[b] ü" in table
    assert COMPANY in table


def test_companies_are_imported(impact_in: Command, migrated: str) -> None:
    ended = impact_in("companies", "import", str(EXAMPLES / "companies.jsonl"))
    assert (ended.status, ended.out, ended.err) == (0, "", "11 imported\n")
    assert len(objects(impact_in("companies", "list", "--json"))) == 11
    again = impact_in("companies", "import", "-", "--json", stdin=(EXAMPLES / "companies.jsonl").read_bytes())
    assert json.loads(again.out) == {"imported": 11, "invalid": []}


def test_one_wrong_line_imports_nothing_and_is_named(impact_in: Command, migrated: str) -> None:
    good = json.dumps({"company": COMPANY, "platform": "benevity", "organization": "o"})
    file = "\n".join([good, good.replace("benevity", "myspace"), "", good, "nonsense"]).encode()
    ended = impact_in("companies", "import", "-", stdin=file)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "line 2: the platform must be one of benevity, goodera, workday",
        "line 4: line 1 has this company and platform already",
        "line 5: the line is no JSON object",
        "nothing imported: 3 lines are wrong",
    ]
    assert objects(impact_in("companies", "list", "--json")) == []
    as_json = impact_in("companies", "import", "-", "--json", stdin=file)
    assert as_json.status == 1
    assert [wrong["line"] for wrong in json.loads(as_json.out)["invalid"]] == [2, 4, 5]


def test_deliveries_are_listed_as_the_api_has_them(impact_in: Command, migrated: str) -> None:
    event = uuid4()
    deliver_to_two_platforms(migrated, event)
    found = {item["platform"]: item for item in objects(impact_in("deliveries", "list", "--json"))}
    assert found.keys() == {"benevity", "goodera"}
    one = found["goodera"]
    assert one["id"] == str(delivery_id(event, "goodera"))
    assert one["eventId"] == str(event)
    assert one["organizationId"] == "at-goodera"
    assert (one["status"], one["outcome"], one["mocked"], one["retries"]) == ("pending", None, False, 0)
    assert one["traceId"] == trace_id(TRACE)
    assert {"errorMsg", "errorCode", "payloadHash", "transactionId", "nextAttemptAt", "createdAt"} <= one.keys()
    assert not {"attempts", "statusEvents"} & one.keys()
    table = impact_in("deliveries", "list").out
    assert one["id"] in table


def test_deliveries_are_narrowed_and_paged(impact_in: Command, migrated: str) -> None:
    deliver_to_two_platforms(migrated, uuid4(), uuid4(), uuid4())
    listed = ("deliveries", "list", "--json")
    assert len(objects(impact_in(*listed, "--platform", "benevity", "--status", "pending", "--since", "1h"))) == 3
    assert objects(impact_in(*listed, "--until", "1h")) == []
    assert objects(impact_in(*listed, "--company", str(uuid4()))) == []
    assert objects(impact_in(*listed, "--error-code", "RATE_LIMIT")) == []
    first = json.loads(impact_in(*listed, "--limit", "4").out)
    assert len(first["items"]) == 4
    rest = json.loads(impact_in(*listed, "--cursor", first["nextCursor"]).out)
    assert len({item["id"] for item in first["items"] + rest["items"]}) == 6
    assert rest["nextCursor"] is None
    assert f"--cursor {first['nextCursor']}" in impact_in("deliveries", "list", "--limit", "4").err
    wrong = impact_in(*listed, "--cursor", "nonsense")
    assert (wrong.status, wrong.err) == (2, "impact-in: --cursor: the cursor is none of ours\n")


def test_a_delivery_is_shown_alone(impact_in: Command, migrated: str) -> None:
    event = uuid4()
    deliver_to_two_platforms(migrated, event)
    identity = str(delivery_id(event, "benevity"))
    shown = impact_in("deliveries", "show", identity, "--json")
    one = json.loads(shown.out)
    assert (one["id"], one["attempts"], one["statusEvents"]) == (identity, [], [])
    readable = impact_in("deliveries", "show", identity)
    assert readable.status == 0
    assert "benevity, as at-benevity" in readable.out
    assert str(event) in readable.out
    unknown = impact_in("deliveries", "show", str(uuid4()))
    assert (unknown.status, unknown.out) == (1, "")
    assert unknown.err.startswith("impact-in: there is no delivery ")


@pytest.mark.fast
def test_attempts_and_webhooks_are_shown_with_the_delivery(impact_in: Command, environment: pytest.MonkeyPatch) -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    attempt = AttemptRow(
        attempt=1, started_at=noon, duration_ms=12.6, http_status=429, outcome="throttled", counted=False,
        error_code="RATE_LIMIT", error_message="too [many]", transaction_id=None,
    )  # fmt: skip
    status = StatusRow(
        event_type="delivery.success", platform_status="confirmed", transaction_id="t-1", error_message=None,
        occurred_at=noon, received_at=noon,
    )  # fmt: skip
    row = DeliveryRow(
        id=uuid4(), event_id=uuid4(), company_id=UUID(COMPANY), platform="benevity", organization_id="org",
        payload_hash="00", status="failed", outcome="rejected", mocked=True, retries=1, replays=0,
        error_code="RATE_LIMIT", error_message="too [many]", transaction_id="t-1", idempotency_key="k",
        platform_status="confirmed", next_attempt_at=None, delivered_at=noon, created_at=noon, updated_at=noon,
        trace_id=trace_id(TRACE), attempts=(attempt,), status_events=(status,),
    )  # fmt: skip

    async def found(delivery: UUID) -> DeliveryRow:
        return row

    environment.setattr("impact_in.cli.deliveries._row", found)
    one = json.loads(impact_in("deliveries", "show", str(row.id), "--json").out)
    assert one["errorMsg"] == "too [many]"
    assert one["deliveredAt"] == "2026-01-31T12:00:00Z"
    (made,) = one["attempts"]
    assert (made["durationMs"], made["httpStatus"], made["errorMsg"]) == (12.6, 429, "too [many]")
    (said,) = one["statusEvents"]
    assert (said["eventType"], said["platformStatus"], said["errorMsg"]) == ("delivery.success", "confirmed", None)
    readable = impact_in("deliveries", "show", str(row.id)).out
    for text in ("failed (rejected, mocked)", "RATE_LIMIT: too [many]", "delivery.success", "2026-01-31 12:00:00Z"):
        assert text in readable


@pytest.mark.fast
@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"null",
        b'{"company": "x", "platform": "benevity", "organization": "o"}',
        b'{"company": "11111111-1111-4111-8111-111111111111", "platform": "benevity"}',
        b'{"company": "11111111-1111-4111-8111-111111111111", "platform": "benevity", "organization": ""}',
        b'{"company": "11111111-1111-4111-8111-111111111111", "platform": "benevity", "organization": "\\u0000"}',
        b'{"company": "11111111-1111-4111-8111-111111111111", "platform": "benevity", "organization": "\\ud800"}',
        b'{"company": "11111111-1111-4111-8111-111111111111", "platform": "benevity", "organization": "o", "on": 1}',
        b'{"company": "11111111-1111-4111-8111-111111111111", "platform": "Benevity", "organization": "o"}',
        b"\xff\xfe",
        b"[" * 60_000,
        b"x" * 70_000,
    ],
)
def test_a_line_that_is_no_company_has_a_reason(line: bytes) -> None:
    entries, (wrong,) = read_companies([line])
    assert entries == []
    assert wrong.line == 1
    assert 0 < len(wrong.reason) < 250


@pytest.mark.fast
def test_an_organization_is_not_cut_or_trimmed_in_silence() -> None:
    for organization in (" o", "o\n", "x" * 513):
        with pytest.raises(CompanyError):
            entry(COMPANY, "benevity", organization)
