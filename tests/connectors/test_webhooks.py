"""Webhooks: each form of signature, made here by hand and not by the code under test; and what each body says."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.benevity import BenevityConnector, BenevitySettings
from connectors.contract import PlatformStatus, SignatureRejected, StatusReport, Webhook, WebhookBodyError
from connectors.recording import RecordingWebhook
from connectors.registry import REGISTRY
from connectors.signatures import secret_key
from tests.connectors.events import shipment
from tests.connectors.platforms import API_KEY, SIGNATURE_SECRET
from tests.connectors.scripted_server import Server

pytestmark = pytest.mark.fast

Headers = list[tuple[str, str]]

KEY = b"a secret of the platform's, long enough"
OLD = b"the secret before that one, still fine"
NOW = 1_767_225_600.0
UNIX = "1767225600"
ISO = "2026-01-01T00:00:00Z"
BODY = b'{"event": "caf\xc3\xa9"}'

WEBHOOKS: dict[str, Webhook] = {name: platform.webhook for name, platform in REGISTRY.items()}
ALL = {**WEBHOOKS, "recording": RecordingWebhook()}


def mac(signed: bytes, key: bytes = KEY) -> bytes:
    """HMAC-SHA256 from its definition (RFC 2104), so that no library is trusted twice."""
    block = key.ljust(64, b"\0") if len(key) <= 64 else hashlib.sha256(key).digest().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + signed).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def standard(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    signature = b64(mac(f"msg_1.{at}.".encode() + body, key))
    return [("Webhook-Id", "msg_1"), ("Webhook-Timestamp", at), ("Webhook-Signature", f"v1,{signature}")]


def benevity(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    return [("X-Benevity-Signature", f"t={at},v1={mac(at.encode() + b'.' + body, key).hex()}")]


def benevity_plain(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    return [("x-benevity-signature", f"sha256={mac(body, key).hex()}")]


def goodera(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    signature = mac(at.encode() + b"." + body, key).hex()
    return [("X-Goodera-Request-Timestamp", at), ("X-Goodera-Signature", f"sha256={signature}")]


def goodera_plain(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    return [("X-GOODERA-SIGNATURE", f"sha256={mac(body, key).hex()}")]


def iso(at: str) -> str:
    return datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")


def workday(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    signature = b64(mac(iso(at).encode() + b":" + body, key))
    return [("X-Workday-Request-Timestamp", iso(at)), ("X-Workday-Signature", signature)]


def workday_hex(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    signature = mac(iso(at).encode() + b":" + body, key).hex()
    return [("X-Workday-Request-Timestamp", iso(at)), ("X-Workday-Signature", f"sha256={signature}")]


def workday_plain(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    return [("X-Workday-Signature", f"sha256={mac(body, key).hex()}")]


def recording(body: bytes = BODY, key: bytes = KEY, at: str = UNIX) -> Headers:
    return [("X-Recording-Signature", f"sha256={mac(body, key).hex()}")]


TIMED = [("benevity", benevity), ("goodera", goodera), ("workday", workday), ("workday", workday_hex)] + [
    (name, standard) for name in ALL
]
PLAIN = [
    ("benevity", benevity_plain),
    ("goodera", goodera_plain),
    ("workday", workday_plain),
    ("recording", recording),
]
FORMS = TIMED + PLAIN


def reason(name: str, headers: Headers, body: bytes = BODY, secrets: Any = (KEY,), now: float = NOW) -> str | None:
    try:
        ALL[name].verify(headers, body, secrets, now)
    except SignatureRejected as rejected:
        return rejected.reason
    return None


def test_the_hand_made_hmac_is_the_known_one() -> None:
    """RFC 4231, test case 2."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert mac(b"what do ya want for nothing?", b"Jefe").hex() == expected
    assert mac(b"x", b"k" * 100) == hmac.digest(b"k" * 100, b"x", "sha256")


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_each_form_is_verified_under_each_secret(name: str, form: Any) -> None:
    assert reason(name, form()) is None
    assert reason(name, [("Host", "x"), *form()[::-1], ("Accept", "*/*")]) is None
    assert reason(name, form(), secrets=(OLD, KEY)) is None
    assert reason(name, form(key=OLD), secrets=(OLD, KEY)) is None
    assert reason(name, form(body=b""), body=b"") is None
    assert reason(name, [(key, f" {value}\t") for key, value in form()]) is None


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_another_secret_or_body_is_a_mismatch(name: str, form: Any) -> None:
    assert reason(name, form(), secrets=(OLD,)) == "mismatch"
    assert reason(name, form(), body=BODY + b" ") == "mismatch"
    assert reason(name, form(), body=b"") == "mismatch"


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_without_a_secret_nothing_is_verified(name: str, form: Any) -> None:
    assert reason(name, form(), secrets=()) == "no_secret"
    assert reason(name, form(key=b""), secrets=(b"",)) == "no_secret"
    assert reason(name, form(key=b""), secrets=(b"", KEY)) == "mismatch"


@pytest.mark.parametrize(("name", "form"), TIMED)
@pytest.mark.parametrize(("off", "expected"), [(-301, "expired"), (-300, None), (300, None), (301, "expired")])
def test_a_time_counts_300_seconds_either_way(name: str, form: Any, off: int, expected: str | None) -> None:
    assert reason(name, form(at=str(int(NOW) + off))) == expected


@pytest.mark.parametrize(("name", "form"), TIMED)
def test_a_clock_that_is_no_number_lets_nothing_in(name: str, form: Any) -> None:
    assert reason(name, form(), now=float("nan")) == "expired"
    assert reason(name, form(), now=float("inf")) == "expired"


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_two_signatures_are_ambiguous(name: str, form: Any) -> None:
    assert reason(name, form() + form()) == "ambiguous"
    own = [header for header in form() if "signature" in header[0].lower()]
    assert reason(name, form() + own) == "ambiguous"
    if form is not standard:
        assert reason(name, form() + standard()) == "ambiguous"


@pytest.mark.parametrize("name", ALL)
def test_no_signature_is_missing(name: str) -> None:
    assert reason(name, []) == "missing"
    others = [header for other, form in FORMS if other != name and form is not standard for header in form()]
    assert reason(name, others) == "missing"
    assert reason(name, standard()[:2]) == "missing"
    assert reason(name, standard()[1:]) == "missing"
    assert reason(name, [standard()[0], standard()[2]]) == "missing"


MOMENTS = [
    "nan",
    "inf",
    "-1",
    "+1767225600",
    "1e9",
    "1767225600.5",
    "",
    " ",
    "١٧٦٧٢٢٥٦٠٠",
    "0x1",
    "9" * 400,
    UNIX + "\n",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_unix_time_is_digits(moment: str) -> None:
    signed = moment.encode() + b"." + BODY
    assert reason("benevity", [("X-Benevity-Signature", f"t={moment},v1={mac(signed).hex()}")]) == "malformed"
    headers = [("X-Goodera-Request-Timestamp", moment), ("X-Goodera-Signature", f"sha256={mac(signed).hex()}")]
    assert reason("goodera", headers) == "malformed"
    signature = b64(mac(b"msg_1." + signed))
    headers = [("Webhook-Id", "msg_1"), ("Webhook-Timestamp", moment), ("Webhook-Signature", f"v1,{signature}")]
    assert reason("workday", headers) in ("malformed", "missing")


@pytest.mark.parametrize(
    "moment",
    [
        *("", UNIX, "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T25:00:00Z", "2026-13-01T00:00:00Z", "nan"),
        *("0001-01-01T00:00:00+14:00", "٢٠٢٦-01-01T00:00:00Z", ISO + " ", ISO + ":", "99999-01-01T00:00:00Z"),
    ],
)
def test_workdays_time_is_iso_8601_with_a_zone(moment: str) -> None:
    signature = b64(mac(moment.encode() + b":" + BODY))
    headers = [("X-Workday-Request-Timestamp", moment), ("X-Workday-Signature", signature)]
    assert reason("workday", headers) in ("malformed", "expired", "mismatch")


@pytest.mark.parametrize(
    "moment", [ISO, "2026-01-01T01:00:00+01:00", "2025-12-31T19:00:00.5-0500", "2026-01-01T00:00:00.123456789Z"]
)
def test_workdays_time_is_signed_as_it_is_written(moment: str) -> None:
    signature = b64(mac(moment.encode() + b":" + BODY))
    assert reason("workday", [("X-Workday-Request-Timestamp", moment), ("X-Workday-Signature", signature)]) is None


def test_a_signature_over_the_body_alone_does_not_do_beside_a_timestamp() -> None:
    assert reason("goodera", [*goodera_plain(), ("X-Goodera-Request-Timestamp", UNIX)]) == "mismatch"
    assert reason("workday", [*workday_plain(), ("X-Workday-Request-Timestamp", ISO)]) == "mismatch"
    assert reason("goodera", goodera()[1:]) == "mismatch"
    assert reason("workday", workday_hex()[1:]) == "mismatch"
    assert reason("workday", workday()[1:]) == "missing"
    assert reason("goodera", [*goodera(), ("X-Goodera-Request-Timestamp", UNIX)]) == "ambiguous"
    assert reason("workday", [*workday(), ("X-Workday-Request-Timestamp", ISO)]) == "ambiguous"


HEX = mac(BODY).hex()
MALFORMED = [
    ("benevity", "X-Benevity-Signature", value)
    for value in (
        HEX,
        f"sha1={HEX}",
        f"sha256={HEX[:-1]}",
        f"sha256={HEX}0",
        f"sha256={HEX},sha256={HEX}",
        f"sha256= {HEX}",
        f"SHA256={HEX}",
        f"v1={HEX},t={UNIX}",
        f"t={UNIX},v1={HEX},v1={HEX}",
        f"t={UNIX}, v1={HEX}",
        f"t={UNIX}",
        "sha256=" + "é" * 64,
        "sha256=" + "\udc80" * 64,
        "sha256=" + "٣" * 64,
        "sha256=" + "g" * 64,
    )
]
MALFORMED += [("goodera", "X-Goodera-Signature", value) for value in (HEX, b64(mac(BODY)), f"t={UNIX},v1={HEX}")]
MALFORMED += [
    ("workday", "X-Workday-Signature", value)
    for value in (HEX, b64(mac(BODY))[:-1], b64(mac(BODY)) + "=", b64(b"short"), "ä" * 44, "sha256=" + b64(mac(BODY)))
]


@pytest.mark.parametrize(("name", "header", "value"), MALFORMED)
def test_what_is_not_quite_a_signature_is_malformed(name: str, header: str, value: str) -> None:
    assert reason(name, [(header, value), ("X-Workday-Request-Timestamp", ISO)]) == "malformed"


def test_upper_case_hex_will_do() -> None:
    assert reason("benevity", [("X-Benevity-Signature", f"sha256={HEX.upper()}")]) is None


@pytest.mark.parametrize("name", ALL)
def test_standard_webhooks_may_list_several_signatures(name: str) -> None:
    identity, moment, (header, right) = standard()
    wrong = f"v1,{b64(mac(b'other'))}"
    for value, expected in (
        (f"{wrong} {right}", None),
        (f"v1a,abc {right}", None),
        (f"{wrong} {wrong}", "mismatch"),
        ("v1a,abc", "malformed"),
        (right[3:], "malformed"),
        ("v1," + "x" * 10, "malformed"),
        (" ".join([right] * 17), "malformed"),
        (f"v2{right[2:]}", "malformed"),
    ):
        assert reason(name, [identity, moment, (header, value)]) == expected
    assert reason(name, [("webhook-id", "ünicode"), *standard()[1:]]) == "malformed"
    assert reason(name, [("webhook-id", "a"), ("webhook-id", "b"), *standard()[1:]]) == "ambiguous"
    assert reason(name, [("webhook-id", "msg_2"), *standard()[1:]]) == "mismatch"


def test_a_secret_is_its_text_or_base64_after_whsec() -> None:
    assert secret_key("plain ünïcode") == "plain ünïcode".encode()
    assert secret_key("whsec_" + b64(KEY)) == KEY
    assert secret_key("whsec_" + b64(KEY).rstrip("=")) == KEY
    assert reason("benevity", standard(), secrets=[secret_key("whsec_" + b64(KEY))]) is None
    for wrong in ("", "whsec_", "whsec_!!!!", "whsec_a", "whsec_ä", "\udc80"):
        with pytest.raises(ValueError, match="secret") as raised:
            secret_key(wrong)
        assert "!!!!" not in str(raised.value)


async def test_an_outgoing_body_is_signed_in_benevitys_own_form() -> None:
    async with Server() as server:
        settings = BenevitySettings(API_KEY, server.url, signature_secret=SIGNATURE_SECRET)
        connector = BenevityConnector(settings)
        sent = shipment(connector)
        await connector.send([sent], sent.idempotency_key)
        await connector.close()
    (seen,) = server.seen
    connector.webhook.verify(list(seen.headers.items()), seen.body, [SIGNATURE_SECRET.encode()], time.time())
    moment, signature = seen.headers["x-benevity-signature"].removeprefix("t=").split(",v1=")
    assert abs(int(moment) - time.time()) < 60
    assert signature == mac(moment.encode() + b"." + sent.body, SIGNATURE_SECRET.encode()).hex()
    assert SIGNATURE_SECRET not in repr(settings)


_names = st.sampled_from(
    [
        *("X-Benevity-Signature", "x-goodera-signature", "X-Workday-Signature", "X-Goodera-Request-Timestamp"),
        *("X-Workday-Request-Timestamp", "webhook-id", "webhook-timestamp", "webhook-signature", "Host"),
    ]
)
_values = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(), max_size=40),
    st.sampled_from([UNIX, ISO, f"sha256={HEX}", f"t={UNIX},v1={HEX}", b64(mac(BODY)), f"v1,{b64(mac(BODY))}", "msg"]),
    st.from_regex(r"(sha256=|t=|v1,|v1=)[0-9a-zA-Z+/=,. ]*"),
)


@pytest.mark.parametrize("name", ALL)
@given(st.lists(st.tuples(_names | st.text(max_size=9), _values), max_size=6), st.binary(max_size=30), st.floats())
def test_no_garbage_gets_in_and_none_raises_anything_else(name: str, headers: Headers, body: bytes, now: float) -> None:
    assert reason(name, headers, body, now=now) in ("missing", "malformed", "mismatch", "expired", "ambiguous")


@pytest.mark.parametrize("name", ALL)
@given(body=st.binary(max_size=60))
def test_any_body_is_a_report_or_does_not_fit(name: str, body: bytes) -> None:
    with pytest.raises(WebhookBodyError):
        ALL[name].parse(body)


# What the bodies say

MOMENT = "2026-02-01T08:30:00.5Z"
AT = datetime(2026, 2, 1, 8, 30, 0, 500_000, tzinfo=UTC)
GOOD: dict[str, dict[str, Any]] = {
    "benevity": {
        "event_type": "delivery.success",
        "transaction_id": "t-1",
        "organization_id": "org-1",
        "status": "success",
        "timestamp": MOMENT,
    },
    "goodera": {
        "eventType": "data.processed",
        "transactionId": "t-1",
        "projectId": "p-1",
        "status": "processed",
        "timestamp": MOMENT,
    },
    "workday": {
        "eventType": "activity.created",
        "activityId": "a-1",
        "transactionId": "t-1",
        "status": "success",
        "timestamp": MOMENT,
    },
    "recording": {"status": "confirmed", "transaction_id": "t-1", "timestamp": MOMENT},
}


def parse(name: str, **changes: Any) -> StatusReport:
    fields = {key: value for key, value in (GOOD[name] | changes).items() if value is not ...}
    return ALL[name].parse(json.dumps(fields).encode())


CONFIRMED, REJECTED, RECEIVED = PlatformStatus.CONFIRMED, PlatformStatus.REJECTED, PlatformStatus.RECEIVED


@pytest.mark.parametrize(
    ("name", "changes", "status"),
    [
        ("benevity", {"event_type": "delivery.success"}, CONFIRMED),
        ("benevity", {"event_type": "delivery.failed"}, REJECTED),
        ("benevity", {"event_type": "delivery.retry"}, None),
        ("goodera", {"eventType": "data.received"}, RECEIVED),
        ("goodera", {"eventType": "data.processed"}, CONFIRMED),
        ("goodera", {"eventType": "data.failed"}, REJECTED),
        ("workday", {"eventType": "activity.created"}, CONFIRMED),
        ("workday", {"eventType": "activity.updated"}, CONFIRMED),
        ("workday", {"eventType": "enrollment.confirmed"}, CONFIRMED),
        ("workday", {"eventType": "activity.created", "status": "error"}, REJECTED),
        ("workday", {"eventType": "activity.updated", "status": "error"}, REJECTED),
        ("workday", {"eventType": "enrollment.confirmed", "status": "error"}, REJECTED),
        ("recording", {"status": "received"}, RECEIVED),
        ("recording", {"status": "rejected"}, REJECTED),
    ],
)
def test_each_event_has_its_status(name: str, changes: dict[str, str], status: PlatformStatus | None) -> None:
    report = parse(name, **changes)
    assert report.status is status
    assert report.transaction_id == "t-1"
    assert report.occurred_at == AT
    assert report.event_type == changes.get("event_type", changes.get("eventType", report.event_type))


def test_the_optional_fields_are_carried() -> None:
    report = parse("benevity", error_message="Nope\x00\nreally" + "!" * 2000)
    assert report.organization_id == "org-1"
    assert report.error_message is not None
    assert report.error_message.startswith("Nope  really")
    assert len(report.error_message) == 1024
    assert parse("goodera", error="no", recordsProcessed=3).error_message == "no"
    assert parse("workday", message="no").error_message == "no"
    assert parse("workday").activity_id == "a-1"
    assert parse("workday", activityId=..., enrollmentId="e-1").activity_id == "e-1"
    alone = parse("workday", transactionId=...)
    assert (alone.transaction_id, alone.activity_id) == (None, "a-1")
    assert parse("workday", activityId=None, transactionId=4711).transaction_id == "4711"
    for name in ("benevity", "goodera", "workday"):
        assert parse(name, something_new={"a": [1]}) == parse(name)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (MOMENT, AT),
        ("2026-02-01T09:30:00.500+01:00", AT),
        ("2026-02-01T08:30:00.500", AT),
        ("2026-02-01 08:30:00.5z", AT),
    ],
)
def test_a_time_is_rfc_3339_in_utc(text: str, moment: datetime) -> None:
    for name in ALL:
        report = parse(name, timestamp=text)
        assert report.occurred_at == moment
        assert report.occurred_at.tzinfo is UTC


REQUIRED = [(name, field) for name, fields in GOOD.items() for field in fields]


@pytest.mark.parametrize(("name", "field"), REQUIRED)
def test_a_field_that_is_missing_or_wrong_is_named_and_never_quoted(name: str, field: str) -> None:
    optional = name == "workday" and field in ("activityId", "transactionId")
    values: list[Any] = [..., None, [], {"PLANTED": 1}, True, 1.5, "", "\x00", "PLANTED" * 100]
    for value in values:
        if optional and value in (..., None):
            continue
        if field == "status" and name in ("benevity", "goodera") and isinstance(value, str):
            continue
        with pytest.raises(WebhookBodyError) as raised:
            parse(name, **{field: value})
        assert "PLANTED" not in str(raised.value)
        assert field in str(raised.value) or field == "timestamp"


def test_a_workday_body_names_something() -> None:
    with pytest.raises(WebhookBodyError, match="transactionId, activityId or enrollmentId is missing"):
        parse("workday", transactionId=..., activityId=...)


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00", "1767225600", "nan"]
)
def test_a_time_that_is_none_does_not_fit(text: str) -> None:
    for name in ALL:
        with pytest.raises(WebhookBodyError, match="timestamp"):
            parse(name, timestamp=text)
