"""Every row of the classification tables (connectors/answers.py, goodera/answers.py), over real HTTP."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from connectors.answers import AnswerReader, Body
from connectors.benevity.answers import CODES as BENEVITY
from connectors.contract import (
    Accepted,
    CredentialsRejected,
    Forbidden,
    Outcome,
    Refused,
    Throttled,
    Unavailable,
    Uncertain,
)
from connectors.goodera import GooderaConnector, GooderaSettings
from connectors.goodera import answers as goodera
from connectors.http_client import Lost, Problem, Reply, Unsent
from connectors.recording import RecordingConnector
from connectors.workday.answers import CODES as WORKDAY
from tests.connectors.events import shipment
from tests.connectors.platforms import API_KEY, REAL, connect, deliveries, platform_server
from tests.connectors.scripted_server import Server, answer

pytestmark = pytest.mark.fast

SENT = [shipment(RecordingConnector())]
CODES = {"benevity": BENEVITY, "goodera": goodera.CODES, "workday": WORKDAY}


def failed(code: object = None, **more: Any) -> dict[str, Any]:
    return {"success": False, "error": "no", **({} if code is None else {"errorCode": code}), **more}


async def ask(name: str, status: int, body: Any = None, **headers: str) -> Outcome:
    async with platform_server() as server:
        server.plays[0] = answer(status, body, **headers)
        connector = connect(name, server.url)
        sent = shipment(connector)
        (outcome,) = await connector.send([sent], sent.idempotency_key)
        await connector.close()
    return outcome


UNAVAILABLE_UNKNOWN = Unavailable(fate_known=False)
UNAVAILABLE_KNOWN = Unavailable(fate_known=True)

STATUSES: list[tuple[int, Any, Outcome, str | None]] = [
    (200, {"success": True, "transactionId": "t"}, Accepted(), None),
    (201, {"success": True}, Accepted(), None),
    (202, {"success": True, "transactionId": "t"}, Accepted(), None),
    (200, failed(), Refused(), "HTTP_200"),
    (200, failed("SOMETHING_NEW"), Refused(), "SOMETHING_NEW"),
    (200, failed("not a code!"), Refused(), "HTTP_200"),
    (200, failed("X" * 65), Refused(), "HTTP_200"),
    (200, failed(7), Refused(), "HTTP_200"),
    (200, failed("RATE_LIMIT"), Throttled(), "RATE_LIMIT"),
    (200, failed("AUTH_INVALID"), CredentialsRejected(), "AUTH_INVALID"),
    (200, {}, Uncertain(), "ANSWER_UNREADABLE"),
    (200, {"success": "true"}, Uncertain(), "ANSWER_UNREADABLE"),
    (200, {"success": 1}, Uncertain(), "ANSWER_UNREADABLE"),
    (200, {"success": None}, Uncertain(), "ANSWER_UNREADABLE"),
    (200, [], Uncertain(), "ANSWER_UNREADABLE"),
    (200, b"", Uncertain(), "ANSWER_UNREADABLE"),
    (200, b"<html>hello</html>", Uncertain(), "ANSWER_UNREADABLE"),
    (200, b'{"success": true', Uncertain(), "ANSWER_UNREADABLE"),
    (200, b'{"success": true} trailing', Uncertain(), "ANSWER_UNREADABLE"),
    (200, '{"success": true}'.encode("utf-16"), Uncertain(), "ANSWER_UNREADABLE"),
    (200, b'{"success": true, "message": ' + b"[" * 100_000, Uncertain(), "ANSWER_UNREADABLE"),
    (204, None, Uncertain(), "ANSWER_UNREADABLE"),
    (301, None, UNAVAILABLE_UNKNOWN, "HTTP_301"),
    (303, None, UNAVAILABLE_UNKNOWN, "HTTP_303"),
    (307, failed("INVALID_METRIC"), UNAVAILABLE_UNKNOWN, "HTTP_307"),
    (400, b"<html>", Refused(), "HTTP_400"),
    (400, failed("RATE_LIMIT"), Throttled(), "RATE_LIMIT"),
    (400, failed("AUTH_INVALID"), CredentialsRejected(), "AUTH_INVALID"),
    (400, {"success": True}, Refused(), "HTTP_400"),
    (401, None, CredentialsRejected(), "HTTP_401"),
    (401, failed("AUTH_INVALID"), CredentialsRejected(), "AUTH_INVALID"),
    (401, failed("RATE_LIMIT"), CredentialsRejected(), "RATE_LIMIT"),
    (403, None, Forbidden(), "ORG_FORBIDDEN"),
    (403, failed("AUTH_INVALID"), Forbidden(), "ORG_FORBIDDEN"),
    (403, failed("ORG_NOT_FOUND"), Forbidden(), "ORG_FORBIDDEN"),
    (403, failed("RATE_LIMIT"), Throttled(), "RATE_LIMIT"),
    (404, failed("NEVER_HEARD"), Refused(), "NEVER_HEARD"),
    (408, failed("INVALID_METRIC"), UNAVAILABLE_UNKNOWN, "INVALID_METRIC"),
    (409, None, Refused(), "HTTP_409"),
    (413, None, Refused(), "HTTP_413"),
    (422, None, Refused(), "HTTP_422"),
    (425, None, UNAVAILABLE_KNOWN, "HTTP_425"),
    (429, None, Throttled(), "HTTP_429"),
    (429, failed("AUTH_INVALID"), Throttled(), "AUTH_INVALID"),
    (500, {"success": True, "transactionId": "t"}, UNAVAILABLE_UNKNOWN, "HTTP_500"),
    (500, failed("RATE_LIMIT"), UNAVAILABLE_UNKNOWN, "HTTP_500"),
    (502, b"<html>", UNAVAILABLE_UNKNOWN, "HTTP_502"),
    (503, failed("AUTH_INVALID"), UNAVAILABLE_UNKNOWN, "HTTP_503"),
    (504, None, UNAVAILABLE_UNKNOWN, "HTTP_504"),
    (599, None, UNAVAILABLE_UNKNOWN, "HTTP_599"),
    (600, None, Uncertain(), "ANSWER_UNREADABLE"),
    (999, {"success": True}, Uncertain(), "ANSWER_UNREADABLE"),
]


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(("status", "body", "expected", "code"), STATUSES)
async def test_each_status_has_its_outcome(
    name: str, status: int, body: Any, expected: Outcome, code: str | None
) -> None:
    outcome = await ask(name, status, body)
    assert type(outcome) is type(expected)
    assert (outcome.http_status, outcome.error_code) == (status, code)
    if isinstance(outcome, Unavailable) and isinstance(expected, Unavailable):
        assert outcome.fate_known == expected.fate_known
    assert (outcome.error_message is None) == isinstance(outcome, Accepted)


PLATFORM_CODES: list[tuple[str, str, type[Outcome]]] = [
    ("benevity", "AUTH_INVALID", CredentialsRejected),
    ("benevity", "ORG_NOT_FOUND", Refused),
    ("benevity", "INVALID_METRIC", Refused),
    ("benevity", "RATE_LIMIT", Throttled),
    ("benevity", "DUPLICATE_ACTIVITY", Refused),
    ("goodera", "AUTH_INVALID", CredentialsRejected),
    ("goodera", "PROJECT_NOT_FOUND", Refused),
    ("goodera", "DIMENSION_INVALID", Refused),
    ("goodera", "BATCH_SIZE_EXCEEDED", Refused),
    ("goodera", "RATE_LIMIT", Throttled),
    ("workday", "AUTH_INVALID", CredentialsRejected),
    ("workday", "TENANT_INVALID", Refused),
    ("workday", "ACTIVITY_INVALID", Refused),
    ("workday", "DUPLICATE_ACTIVITY", Accepted),
    ("workday", "RATE_LIMIT", Throttled),
]


@pytest.mark.parametrize("status", [200, 400, 409, 422])
@pytest.mark.parametrize(("name", "code", "expected"), PLATFORM_CODES)
async def test_each_error_code_refines_2xx_and_4xx(name: str, code: str, expected: type[Outcome], status: int) -> None:
    outcome = await ask(name, status, failed(code, transactionId="t-9"))
    assert type(outcome) is expected
    assert outcome.error_code == (None if expected is Accepted else code)
    if expected is Accepted:
        assert outcome.transaction_id == "t-9"
    if outcome.error_message is not None:
        assert ("not known" in outcome.error_message) == (code not in CODES[name])


@pytest.mark.parametrize("code", sorted({code for codes in CODES.values() for code in codes}))
@pytest.mark.parametrize("name", REAL)
async def test_no_error_code_refines_a_5xx(name: str, code: str) -> None:
    outcome = await ask(name, 500, failed(code))
    assert isinstance(outcome, Unavailable)
    assert outcome.error_code == "HTTP_500"


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    ("status", "after"), [(429, 12.0), (503, 12.0), (500, None), (408, None), (425, None), (502, None)]
)
async def test_429_and_503_obey_retry_after(name: str, status: int, after: float | None) -> None:
    outcome = await ask(name, status, None, Retry_After="12")
    assert isinstance(outcome, Throttled | Unavailable)
    assert outcome.after == after


async def test_a_rate_limit_under_another_status_obeys_it_too() -> None:
    outcome = await ask("goodera", 400, failed("RATE_LIMIT"), Retry_After="3")
    assert isinstance(outcome, Throttled)
    assert outcome.after == 3.0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("t-1", "t-1"),
        (4711, "4711"),
        ("", None),
        ("x" * 255, "x" * 255),
        ("x" * 256, None),
        ("a\nb", None),
        (True, None),
        (1.5, None),
        (["t"], None),
        (f"t-{API_KEY}", None),
    ],
)
async def test_a_transaction_id_is_printable_text_or_a_number(given: object, kept: str | None) -> None:
    outcome = await ask("benevity", 200, {"success": True, "transactionId": given})
    assert isinstance(outcome, Accepted)
    assert outcome.transaction_id == kept


async def test_a_platforms_words_are_printable_and_bounded() -> None:
    outcome = await ask("benevity", 422, failed("INVALID_METRIC", error="bad\x00\x1b[31m\u202e " + "ü" * 5000))
    assert outcome.error_message is not None
    assert outcome.error_message.startswith("HTTP 422: bad")
    assert outcome.error_message.isprintable()
    assert len(outcome.error_message.encode()) <= 1024


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Unsent(Problem.CONNECT_FAILED), Unavailable),
        (Lost(Problem.TIMEOUT), Uncertain),
        (Reply(200, CIMultiDict(), None, Problem.ANSWER_TOO_LONG), Uncertain),
        (Reply(200, CIMultiDict(), None, Problem.TIMEOUT), Uncertain),
        (Reply(307, CIMultiDict(), None, Problem.ANSWER_TOO_LONG), Unavailable),
        (Reply(401, CIMultiDict(), None, Problem.TIMEOUT), CredentialsRejected),
        (Reply(403, CIMultiDict(), None, Problem.TIMEOUT), Forbidden),
        (Reply(422, CIMultiDict(), None, Problem.TIMEOUT), Uncertain),
        (Reply(422, CIMultiDict(), None, Problem.CONNECTION_LOST), Uncertain),
        (Reply(422, CIMultiDict(), None, Problem.ANSWER_TOO_LONG), Refused),
        (Reply(429, CIMultiDict(), None, Problem.TIMEOUT), Throttled),
        (Reply(503, CIMultiDict(), None, Problem.ANSWER_TOO_LONG), Unavailable),
    ],
)
def test_an_answer_that_never_came_whole_goes_by_what_is_known(result: Any, expected: type[Outcome]) -> None:
    assert type(AnswerReader(WORKDAY, lambda: ()).outcome(result, ())) is expected


_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
_entries = st.dictionaries(st.sampled_from(("index", "success", "transactionId", "errorCode", "error")), _scalars)
_known = st.sampled_from(sorted({code for codes in CODES.values() for code in codes}))
_bodies = st.dictionaries(
    st.sampled_from(Body.__struct_fields__), _scalars | _known | st.lists(_scalars | _entries, max_size=4)
).map(lambda body: json.dumps(body).encode())


@given(st.integers(100, 999), st.binary(max_size=40) | _bodies)
def test_whatever_a_platform_answers_is_an_outcome(status: int, body: bytes) -> None:
    reply = Reply(status, CIMultiDict({"Retry-After": "x"}), body)
    for name, codes in CODES.items():
        reader = AnswerReader(codes, lambda: ("secret",))
        outcomes = [reader.outcome(reply, SENT)]
        if name == "goodera":
            outcomes += [goodera.single(reader, reply, SENT), *goodera.batch(reader, reply, SENT * 3)]
            assert len(outcomes) == 5
        for outcome in outcomes:
            assert isinstance(outcome, Outcome)
            if isinstance(outcome, Accepted) and b"DUPLICATE" not in body:
                assert 200 <= status < 300


# Goodera's batches

ALL = "all"


async def batch(size: int, body: Any, status: int = 200) -> list[Outcome]:
    server = Server([answer(status, body)])
    async with server:
        connector = GooderaConnector(GooderaSettings(API_KEY, server.url))
        sent = [shipment(connector, number=number) for number in range(size)]
        outcomes = await connector.send(sent, sent[0].idempotency_key)
        await connector.close()
    (seen,) = server.seen
    assert seen.path == "/impact-data/batch"
    assert seen.body == b'{"records":[' + b",".join(one.body for one in sent) + b"]}"
    return outcomes


OK, NO, MAYBE = Accepted, Refused, Uncertain

BATCHES: list[tuple[str, Any, int, list[type[Outcome]]]] = [
    ("no results, no count", {"success": True, "batchId": "b"}, 200, [OK, OK, OK]),
    ("no results, full count", {"success": True, "batchId": "b", "recordsProcessed": 3}, 200, [OK, OK, OK]),
    ("no results, short count", {"success": True, "recordsProcessed": 2}, 200, [MAYBE] * 3),
    ("no results, long count", {"success": True, "recordsProcessed": 4}, 200, [MAYBE] * 3),
    ("no results, odd count", {"success": True, "recordsProcessed": "3"}, 200, [MAYBE] * 3),
    ("no results, true for a count", {"success": True, "recordsProcessed": True}, 200, [MAYBE] * 3),
    ("null results", {"success": True, "results": None}, 200, [OK, OK, OK]),
    ("results are no list", {"success": True, "results": "yes"}, 200, [MAYBE] * 3),
    ("results are empty", {"success": True, "results": []}, 200, [MAYBE] * 3),
    (
        "one refused",
        {"success": True, "results": [{"index": i, "success": i != 1} for i in range(3)]},
        200,
        [OK, NO, OK],
    ),
    (
        "all refused and the batch too",
        {"success": False, "results": [{"index": i, "success": False} for i in range(3)]},
        200,
        [NO, NO, NO],
    ),
    ("in another order", {"success": True, "results": [{"index": 2, "success": True}]}, 200, [MAYBE, MAYBE, OK]),
    (
        "an index twice",
        {"success": True, "results": [{"index": 0, "success": True}, {"index": 0, "success": False}]},
        200,
        [MAYBE] * 3,
    ),
    (
        "rubbish between",
        {
            "success": True,
            "results": [
                *(None, 7, {"index": 1.0, "success": True}, {"index": True, "success": True}),
                *({"index": 9, "success": True}, {"index": 0, "success": "yes"}, {"index": 2, "success": True}),
            ],
        },
        200,
        [MAYBE, MAYBE, OK],
    ),
    (
        "codes of their own",
        {
            "success": True,
            "results": [
                {"index": 0, "success": False, "errorCode": "RATE_LIMIT"},
                {"index": 1, "success": False, "errorCode": "AUTH_INVALID"},
                {"index": 2, "success": False, "errorCode": "DIMENSION_INVALID"},
            ],
        },
        200,
        [Throttled, CredentialsRejected, Refused],
    ),
    ("refused as a whole", failed("DIMENSION_INVALID"), 200, [NO, NO, NO]),
    ("refused by status", failed("DIMENSION_INVALID"), 422, [NO, NO, NO]),
    ("too large", failed("BATCH_SIZE_EXCEEDED"), 413, [NO, NO, NO]),
    ("throttled", failed("RATE_LIMIT"), 429, [Throttled] * 3),
    ("no credentials", failed("AUTH_INVALID"), 401, [CredentialsRejected] * 3),
    (
        "a server error with results",
        {"success": True, "results": [{"index": 0, "success": True}]},
        500,
        [Unavailable] * 3,
    ),
    ("unreadable", b"<html>", 200, [MAYBE] * 3),
    ("no success", {"batchId": "b", "recordsProcessed": 3}, 200, [MAYBE] * 3),
]


@pytest.mark.parametrize(("body", "status", "expected"), [row[1:] for row in BATCHES], ids=[row[0] for row in BATCHES])
async def test_each_member_of_a_batch_has_its_outcome(body: Any, status: int, expected: list[type[Outcome]]) -> None:
    outcomes = await batch(3, body, status)
    assert [type(outcome) for outcome in outcomes] == expected
    assert {outcome.http_status for outcome in outcomes} == {status}


async def test_a_refusal_says_whether_it_was_of_the_whole() -> None:
    of_one = {"index": 0, "success": False, "errorCode": "DIMENSION_INVALID"}
    for body, status, whole in (
        ({"success": False, "errorCode": "DIMENSION_INVALID"}, 200, True),
        ({"success": False, "errorCode": "BATCH_SIZE_EXCEEDED"}, 400, True),
        ({"success": False, "results": [of_one, {"index": 1, "success": True}]}, 200, False),
    ):
        refused, _ = await batch(2, body, status)
        assert isinstance(refused, Refused)
        assert refused.whole is whole


async def test_a_member_without_a_transaction_id_has_its_batchs() -> None:
    results = [
        {"index": 0, "success": True, "transactionId": "own"},
        {"index": 1, "success": True},
        {"index": 2, "success": False, "errorCode": "DIMENSION_INVALID"},
    ]
    outcomes = await batch(3, {"success": True, "batchId": "b-1", "results": results})
    assert [outcome.transaction_id for outcome in outcomes] == ["own", "b-1", None]
    outcomes = await batch(2, {"success": True, "batchId": "b-1", "transactionId": "t"})
    assert [outcome.transaction_id for outcome in outcomes] == ["b-1", "b-1"]


async def test_a_refused_member_says_why() -> None:
    results = [
        {"index": 0, "success": True},
        {"index": 1, "success": False, "error": "unit is not known", "errorCode": "DIMENSION_INVALID"},
    ]
    _, refused = await batch(2, {"success": True, "batchId": "b", "results": results})
    assert (refused.error_code, refused.error_message) == ("DIMENSION_INVALID", "HTTP 200: unit is not known")


async def test_a_hundred_records_go_in_one_request() -> None:
    outcomes = await batch(100, {"success": True, "batchId": "b", "recordsProcessed": 100})
    assert len(outcomes) == 100


async def test_a_single_record_that_was_not_processed_is_uncertain() -> None:
    assert isinstance(await ask("goodera", 200, {"success": True, "recordsProcessed": 0}), Uncertain)
    assert isinstance(await ask("goodera", 200, {"success": True, "recordsProcessed": 1}), Accepted)


async def test_a_sole_shipment_goes_to_the_single_address() -> None:
    async with platform_server() as server:
        connector = connect("goodera", server.url)
        sent = shipment(connector)
        await connector.send([sent], sent.idempotency_key)
        await connector.close()
    assert [seen.path for seen in server.seen] == ["/v1/impact-data"]
    assert len(deliveries(server)) == 1
