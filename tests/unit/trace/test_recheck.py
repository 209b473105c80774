"""Comparing another copy of a trace: where it is the same, and from which line start delivery goes on."""

from __future__ import annotations

import zlib

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


@pytest.mark.parametrize("part", [0.02, 0.25, 0.5, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("mib", [1, 12])
def test_what_comes_again_is_in_proportion_to_what_changed(part: float, mib: int) -> None:
    """However long the log and however long ago the change, little more than what follows is read again."""
    log = lines(20_000 * mib, 45)
    place = Place()
    for at in range(0, len(log), 8000):
        place.advance(log[at : at + 8000])
    where = int(part * len(log))
    recheck = compare(place, log[:where] + b"#" + log[where + 1 :], 1 << 20)
    assert 0 <= where - recheck.good_offset <= (len(log) - where) / 8 + (20 << 10)


def test_a_change_in_the_last_bytes_is_found_to_the_line() -> None:
    """Inside what is kept of them the line that changed is the first to come again."""
    log = lines(12)
    place = Place()
    place.advance(log)
    for line in (1, 5, 11):
        start = log.index(b"%d y" % line)
        recheck = compare(place, log[: start + 5] + b"#" + log[start + 6 :])
        assert recheck.good_offset == start


def test_a_log_may_change_again() -> None:
    """What was true of a past that is gone is forgotten: a second change is found as the first one was."""
    old = lines(3000)
    place = Place()
    for at in range(0, len(old), 5000):
        place.advance(old[at : at + 5000])
    new = old[:20_000] + old[20_000:60_000].replace(b"y", b"z") + old[60_000:]
    recheck = compare(place, new)
    assert recheck.good_offset > 0
    place.rewind(recheck.good_offset, recheck.good_crc, recheck.good_tail)
    for at in range(place.offset, len(new), 5000):
        place.advance(new[at : at + 5000])
    assert compare(place, new).complete
    newest = new[:100_000] + b"#" + new[100_001:]
    assert 100_000 - (20 << 10) <= compare(place, newest).good_offset <= 100_000


def test_how_a_changed_log_begins_is_learned_anew() -> None:
    """Of its first bytes nothing is kept from before the change, nor how often the first is repeated."""
    place = Place()
    place.advance(b"\n" * 200 + lines(5))
    new = b"\n" * 100 + b"other\n" + lines(20)
    recheck = compare(place, new)
    assert recheck.good_offset == 100
    place.rewind(recheck.good_offset, recheck.good_crc, recheck.good_tail)
    place.advance(new[place.offset :])
    assert place.head == new[:256]
    assert place.run is not None
    assert (place.run.length, place.run.over) == (100, True)
    dots = Place()
    dots.advance(b".\n" + b"." * 50)
    dots.rewind(2, zlib.crc32(b".\n"), b".\n")
    dots.advance(b"x" * 50)
    assert dots.head == b".\n" + b"x" * 50


def test_nothing_is_complete_before_its_beginning() -> None:
    """A place that was entered and not read from yet is there once the other copy reaches so far."""
    recheck = Recheck(100, [], b"")
    recheck.feed(b"x" * 99)
    assert not recheck.complete
    recheck.feed(b"x")
    assert recheck.complete


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
