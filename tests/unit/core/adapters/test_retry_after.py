"""Both forms of Retry-After, and everything else that stands in its place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbotctl.core.adapters.retry_after import seconds_to_wait


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 12.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_a_wait_is_read(text: str | None, seconds: float | None) -> None:
    assert seconds_to_wait(text) == seconds


def test_a_moment_counts_from_now() -> None:
    seconds = seconds_to_wait(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert seconds is not None
    assert 3590 < seconds <= 3600


@given(st.text() | st.from_regex(r"(\w\w\w, )?\d+ Oct \d+ \d+:\d\d(:\d+)? [+-]?\d+", fullmatch=True))
def test_no_text_is_more_than_it_can_take(text: str) -> None:
    seconds = seconds_to_wait(text)
    assert seconds is None or seconds >= 0.0
