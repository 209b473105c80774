"""Numbers and words as a person reads them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.cli import text
from tests.unit.cli.samples import NOW


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_500_000, "1.4 MiB"),
        (150 * 1024**2, "150 MiB"),
        (1023 * 1024**2, "1.0 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes(count: int | None, shown: str) -> None:
    """A size has three digits or so and the unit that keeps it short."""
    assert text.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (3599, "59m59s"),
        (7620, "2h07m"),
        (90000, "1d01h"),
        (-3, "0.0s"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    """A duration is never shown as sixty of a smaller unit."""
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("ago", "shown"), [(-5, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (86400 * 9, "9d")]
)
def test_ages(ago: int, shown: str) -> None:
    """An age is one number and one unit; a clock that is ahead is no age."""
    assert text.age(NOW - timedelta(seconds=ago), NOW) == shown
    assert text.age(None, NOW) == "-"


def test_words_of_a_server_are_one_safe_line() -> None:
    """Neither an escape sequence nor a line break of a name reaches the terminal."""
    assert text.plain("a\x1b]0;title\x07b") == "ab"
    shown = text.plain("a\x1b[31mred\x1b[2J\nnext\x9b1m")
    assert "\x1b" not in shown
    assert "\n" not in shown
    assert "\x9b" not in shown
    assert shown.startswith("ared")


@given(st.text(max_size=60), st.integers(1, 30))
def test_shortened_text_fits(word: str, width: int) -> None:
    """Whatever the text, it fits, and what fits already stays as it is."""
    short = text.shorten(word, width)
    assert len(short) <= width
    if len(word) <= width:
        assert short == word


def test_shortening_keeps_both_ends() -> None:
    """A name is told apart by its beginning and its end."""
    assert text.shorten("integration tests 11/12", 12) == "integr…11/12"


def test_counts() -> None:
    """One job, two jobs, thousands with a comma."""
    assert text.count(1, "job") == "1 job"
    assert text.count(1200, "job") == "1,200 jobs"
    assert text.count(0, "archive") == "0 archives"
