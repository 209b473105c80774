"""Comparing another copy of a trace: where it is the same, and from which line start delivery goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._trace.place import RECENT_BYTES, Place, Recheck


def lines(count: int, width: int = 40) -> bytes:
    """Some log, every line different."""
    return b"".join(b"%d " % n + b"y" * width + b"\n" for n in range(count))


def compare(place: Place, other: bytes, step: int = 1000) -> Recheck:
    """Feed another copy in pieces."""
    recheck = place.recheck()
    for at in range(0, len(other), step):
        recheck.feed(other[at : at + step])
    return recheck


def begins_line(log: bytes, offset: int) -> bool:
    """Whether a line begins there."""
    return offset == 0 or log[offset - 1 : offset] == b"\n"


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("size", [1000, 200_000])
@pytest.mark.parametrize("width", [10, 3000, 9000])
def test_delivery_goes_on_at_a_line_start(step: int, size: int, width: int) -> None:
    """A change inside the kept bytes goes back to where a line near it begins, however long lines are."""
    log = lines(12, width)
    place = Place()
    for at in range(0, len(log), size):
        place.advance(log[at : at + size])
    other = log[:-5] + b"ZZZZ\n"
    recheck = compare(place, other, step)
    assert recheck.differs
    assert begins_line(other, recheck.good_offset)
    assert len(log) - 5 - RECENT_BYTES - 2 * (width + 10) <= recheck.good_offset <= len(log) - 5
    assert recheck.good_tail == other[: recheck.good_offset][-256:]


@given(st.lists(st.integers(1, 3 * RECENT_BYTES), max_size=6), st.data())
def test_every_change_leads_to_a_line_start_before_it(widths: list[int], data: st.DataObject) -> None:
    """Wherever a copy differs, what is called good is the same in both and ends with a line."""
    log = b"".join(b"%d" % (n % 10) * width + b"\n" for n, width in enumerate(widths)) + b"half a line"
    place, size = Place(), data.draw(st.integers(1, 5000))
    for at in range(0, len(log), size):
        place.advance(log[at : at + size])
    where = data.draw(st.integers(0, len(log) - 1))
    other = log[:where] + b"#" + log[where + 1 :]
    recheck = compare(place, other, size)
    assert recheck.good_offset <= where
    assert begins_line(other, recheck.good_offset)
    place.rewind(recheck.good_offset, recheck.good_crc, recheck.good_tail)
    place.advance(other[recheck.good_offset :])
    assert compare(place, other).complete


@pytest.mark.parametrize("other", [b"", b"new\n", b"new\nlog", lines(300)[:5000], lines(500) + b"x\n"])
@pytest.mark.parametrize("step", [1, 100_000])
def test_a_tail_that_began_inside_goes_on_at_a_line_start(other: bytes, step: int) -> None:
    """Entered in the middle of a line, then another log: it goes on at a line of that, or at its first."""
    log = lines(400)
    place = Place.inside(len(log) - 21, log[-85:-21])
    place.advance(b"more\n")
    recheck = compare(place, other, step)
    assert not recheck.complete
    good = recheck.good_offset
    start = len(log) - 85
    assert good == (other.rfind(b"\n", 0, start) + 1 if len(other) >= start else 0)
    place.rewind(good, recheck.good_crc, recheck.good_tail)
    assert place.sample(256) == other[:good][-256:]
    assert (place.head is None) == (good > 0)
    place.advance(other[good:])
    assert compare(place, other).complete
