"""`Retry-After` in each of its forms, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from connectors.retry_after import retry_after

pytestmark = pytest.mark.fast

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("99999999999999999999999999", 3600.0),
        ("-1", None),
        ("-0.5", None),
        ("+5", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("0x10", None),
        ("٣", None),
        ("1 2", None),
        ("9" * 101, None),
        ("Thu, 01 Jan 2026 00:02:00 GMT", 120.0),
        ("Thursday, 01-Jan-26 00:02:00 GMT", 120.0),
        ("Thu Jan  1 00:02:00 2026", 120.0),
        ("Thu, 01 Jan 2026 01:02:00 +0100", 120.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", None),
        ("Fri, 01 Jan 2038 00:00:00 GMT", 3600.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("Fri, 99 Foo 2026 99:99:99 GMT", None),
        ("2026-01-01T00:02:00Z", None),
    ],
)
def test_a_wait_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(CIMultiDict({"retry-after": text}), NOW) == seconds


def test_a_date_counts_from_the_answers_own_date() -> None:
    headers = CIMultiDict({"Retry-After": "Tue, 01 Jan 2030 00:00:30 GMT", "Date": "Tue, 01 Jan 2030 00:00:00 GMT"})
    assert retry_after(headers, NOW) == 30.0
    headers["Date"] = "nonsense"
    assert retry_after(headers, NOW) == 3600.0


def test_without_the_header_nothing_was_said() -> None:
    assert retry_after(CIMultiDict(), NOW) is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_gives_a_wait_within_the_hour_or_none(text: str, date: str) -> None:
    seconds = retry_after(CIMultiDict({"Retry-After": text, "Date": date}), NOW)
    assert seconds is None or 0 <= seconds <= 3600
