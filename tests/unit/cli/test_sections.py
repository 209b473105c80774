"""Section markers on a terminal: gone wherever the log is cut, and nothing else with them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncjobs.cli.sections import SectionFilter

ERASE = b"\r\x1b[0K"
START, END = b"section_start:1560896352:build_1.x-y" + ERASE, b"section_end:1560896353:build_1.x-y" + ERASE
FOLDED = b"section_start:1560896352:deps[collapsed=true,hide_duration=true]" + ERASE


def shown(*pieces: bytes) -> bytes:
    """What comes out of a log fed in these pieces."""
    sections = SectionFilter()
    return b"".join([*map(sections.feed, pieces), sections.finish()])


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (START + b"Header\nline\n" + END + b"next\n", b"Header\nline\nnext\n"),
        (END + FOLDED + b"\x1b[36mdeps\x1b[0m\n", b"\x1b[36mdeps\x1b[0m\n"),
        (b"2024-05-22T12:43:46.962646Z 00O " + START + b"x\n", b"2024-05-22T12:43:46.962646Z 00O x\n"),
    ],
)
def test_markers_go_and_text_stays(log: bytes, text: bytes) -> None:
    """A marker vanishes with what erases it, be it alone, in a row, or behind a timestamp."""
    assert shown(log) == text
    assert shown(*(log[n : n + 1] for n in range(len(log)))) == text


@pytest.mark.parametrize(
    "text",
    [
        b"section_start:1:x\n",
        b"section_start:soon:x" + ERASE,
        b"section_middle:1:x" + ERASE,
        b"section_start:1:x\r\nnext",
        b"section_start:1:x[never closed" + ERASE,
        b"the process passes",
        b"section_start:1:" + b"x" * 5000 + ERASE,
    ],
)
def test_what_only_looks_like_a_marker_stays(text: bytes) -> None:
    """Text that a program printed is shown, to the byte, also when the log ends in the middle of it."""
    for length in range(min(len(text), 80) + 1):
        assert shown(text[:length]) == text[:length]
    assert shown(text) == shown(*(text[n : n + 1] for n in range(len(text)))) == text


PARTS = st.sampled_from(
    [START, END, FOLDED, b"section_", b"s", b"\r", b"\x1b[0K", b"\n", b"text", b":1:", START[1:]]
)


@given(st.lists(PARTS, max_size=12), st.lists(st.integers(0, 400), max_size=6))
@example([b"section_", START], [8])
def test_any_split_gives_the_same(parts: list[bytes], cuts: list[int]) -> None:
    """Where the network cuts a log makes no difference."""
    log = b"".join(parts)
    places = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    pieces = [log[a:b] for a, b in itertools.pairwise(places)]
    assert shown(*pieces) == shown(log)


def test_little_is_held_back() -> None:
    """A log that goes on and on without a line end is shown as it comes."""
    sections = SectionFilter()
    given_bytes = shown_bytes = 0
    for _ in range(100):
        given_bytes += 400
        shown_bytes += len(sections.feed(b"section_" * 50))
        assert given_bytes - shown_bytes <= 1024
