"""Where the last lines begin, however the log comes."""

from __future__ import annotations

import zlib

from hypothesis import example, given
from hypothesis import strategies as st

from asyncjobs._trace.starts import LineStarts


def expected(log: bytes, lines: int) -> int:
    """The offset after which the last lines come, by the plainest means."""
    kept = log.splitlines(keepends=True)
    return len(log) - len(b"".join(kept[max(0, len(kept) - lines) :]))


@given(st.text("a\n", max_size=300), st.integers(0, 20), st.lists(st.integers(0, 300), max_size=10))
@example("ab\n" * 40, 5, list(range(120)))
@example("ab\n" * 40 + "a", 5, list(range(121)))
@example("", 0, [])
def test_last_lines_begin_where_they_begin(text: str, lines: int, cuts: list[int]) -> None:
    """Whole, byte by byte or in random pieces: the same place, proven by CRC and last bytes."""
    log = text.encode()
    starts, last = LineStarts(lines), 0
    for cut in [*sorted(each for each in cuts if each <= len(log)), len(log)]:
        starts.feed(log[last:cut])
        last = cut
    place = starts.place()
    assert place.offset == expected(log, lines)
    assert (place.start, place.crc) == (0, zlib.crc32(log[: place.offset]))
    assert place.sample(64) == log[: place.offset][-64:]
