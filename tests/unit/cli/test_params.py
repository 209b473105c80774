"""What people type, read or refused in one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from asyncjobs.cli.params import parse_factor, parse_interval, parse_moment, parse_size, parse_span
from tests.unit.cli.samples import NOW


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1500", 1500), ("10k", 10240), ("2.5MiB", 2621440), ("1G", 1024**3), (" 3 mb ", 3 * 1024**2)],
)
def test_sizes_are_read(text: str, value: int) -> None:
    """Every usual way to write a size is a number of bytes."""
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "ten", "-5", "5x", "1.2.3", "5 5", "9" * 400])
def test_other_sizes_are_refused(text: str) -> None:
    """The refusal says what would be accepted."""
    with pytest.raises(ValueError, match="20M"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("1w", 604800), ("0.5h", 1800)],
)
def test_spans_are_read(text: str, value: float) -> None:
    """Every usual way to write a span is a number of seconds."""
    assert parse_span(text) == value


@pytest.mark.parametrize("text", ["", "soon", "-5", "nan", "inf", "5x", "1h later"])
def test_other_spans_are_refused(text: str) -> None:
    """The refusal says what would be accepted."""
    with pytest.raises(ValueError, match="1h30m"):
        parse_span(text)


def test_an_interval_leaves_time() -> None:
    """What is done again and again has time between, however little."""
    assert parse_interval("20s") == 20
    assert parse_interval("0.02") == 0.02
    for text in ("0", "0s", "0h0m"):
        with pytest.raises(ValueError, match="more than 0"):
            parse_interval(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", ""])
def test_other_factors_are_refused(text: str) -> None:
    """A factor is a finite number above 0; the rest is refused, what is no number at all included."""
    assert parse_factor("2.5") == 2.5
    with pytest.raises(ValueError, match="above 0"):
        parse_factor(text)


def test_moments_before_now() -> None:
    """A span is counted back from now."""
    assert parse_moment("2h", NOW) == NOW - timedelta(hours=2)


def test_moments_by_date() -> None:
    """A date with an offset is itself; one without is local; both are aware."""
    assert parse_moment("2026-05-01T12:00:00Z", NOW) == NOW
    local = parse_moment("2026-05-01", NOW)
    assert local.tzinfo is not None
    assert local == datetime(2026, 5, 1).astimezone()


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "99999999999999d"])
def test_other_moments_are_refused(text: str) -> None:
    """The refusal says what would be accepted."""
    with pytest.raises(ValueError, match="2026-05-01"):
        parse_moment(text, datetime.now(UTC))
