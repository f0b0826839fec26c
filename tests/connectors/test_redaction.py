"""A platform's words without our secrets and without the event's content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.redaction import HIDDEN, credential_texts, redacted
from schemas.event import ImpactMetricEvent
from tests.connectors.events import entry, event, events

pytestmark = pytest.mark.fast

SECRET = "s3cret/key+with specials"
OF = event(
    entry("volunteer_hours", "321.25", "h", description="Wednesday evenings in the old library"),
    entry("integration_score", "0.42", "ratio"),
    program_name="Sprachtandem",
    program_id="prog-77",
    source="svc",
)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("metricType is not known", "metricType is not known"),
        (f"key {SECRET} is revoked", f"key {HIDDEN} is revoked"),
        ("key s3cret%2Fkey%2Bwith%20specials no", f"key {HIDDEN} no"),
        ("key s3cret%2Fkey%2Bwith+specials no", f"key {HIDDEN} no"),
        ("program SPRACHTANDEM unknown", f"program {HIDDEN} unknown"),
        ("program 'prog-77' unknown", f"program '{HIDDEN}' unknown"),
        ("description: Wednesday evenings in the ol", f"description: {HIDDEN}"),
        ("from svc", f"from {HIDDEN}"),
        ("value 321.25 is too much", f"value {HIDDEN} is too much"),
        ("value 42.00 is too much", f"value {HIDDEN} is too much"),
        ("at most 100 requests a minute", "at most 100 requests a minute"),
        ("a\x00b\nc\u202e\ud800", "a b c"),
        ("", ""),
    ],
)
def test_what_is_ours_is_hidden_and_the_rest_stays(said: str, kept: str) -> None:
    assert redacted(said, credential_texts(SECRET), [OF]) == kept


def test_a_text_without_bounds_is_cut() -> None:
    assert redacted("x" * 10_000_000, (), [OF]) == "x" * 1024
    assert len(redacted("ü" * 5_000, (), [OF]).encode()) <= 1024


@given(st.text(max_size=60), events, st.text(max_size=60))
def test_no_credential_of_eight_letters_survives(before: str, of: ImpactMetricEvent, after: str) -> None:
    secret = "Zq8#kfm2pLx0"
    text = redacted(before + secret + after, (secret,), [of])
    assert secret not in text
    assert text.isprintable()


@given(events, st.data())
def test_no_run_of_an_events_text_survives(of: ImpactMetricEvent, data: st.DataObject) -> None:
    texts = [text for text in (of.program_name, of.program_description, of.program_id) if text and text.isprintable()]
    if not texts:
        return
    text = data.draw(st.sampled_from(texts))
    if len(text) >= 8:
        assert text not in redacted(f"<{text}>", (), [of])
