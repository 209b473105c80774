"""Lines: bytes in, lines out, whatever the pieces the bytes come in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._trace.lines import MAX_OPEN_SECTIONS, LineParser, TraceLine

MARK = "\r\x1b[0K"
STAMP = "2024-05-01T12:00:00.{:06d}Z "


def parse(data: bytes, *sizes: int, max_line: int = 1 << 20) -> list[TraceLine]:
    """Feed *data* in pieces of the given sizes (the rest in one) and finish."""
    parser, at, lines = LineParser(max_line=max_line), 0, []
    for size in sizes:
        lines += parser.feed(data[at : at + size])
        at += size
    lines += parser.feed(data[at:])
    return lines + parser.finish()


def same_however_fed(data: bytes, *, max_line: int = 1 << 20) -> list[TraceLine]:
    """Parse whole and byte by byte, demand the same lines and exact bytes, and give them."""
    whole = parse(data, max_line=max_line)
    assert parse(data, *([1] * len(data)), max_line=max_line) == whole
    assert b"".join(line.raw for line in whole) == data
    offset = 0
    for line in whole:
        assert line.offset == offset
        offset += len(line.raw)
    return whole


def entry(text: str, micro: int = 0, stream: str = "01", kind: str = "O", flag: str = " ") -> str:
    """One entry of a timestamped trace."""
    return f"{STAMP.format(micro)}{stream}{kind}{flag}{text}\n"


def texts(data: str) -> list[str]:
    """The texts of a trace."""
    return [line.text for line in same_however_fed(data.encode())]


def test_lines_end_at_newline_alone() -> None:
    r"""`\n` ends a line; vertical tabs, form feeds and Unicode separators do not."""
    assert texts("a\x0bb\x0cc\u2028d\u0085e\nf\n\ng") == ["a\x0bb\x0cc\u2028d\u0085e", "f", "", "g"]


def test_lines_are_numbered_from_one() -> None:
    """Numbers count the lines of the job."""
    assert [line.number for line in same_however_fed(b"a\nb\r\nc")] == [1, 2, 3]


def test_last_line_without_newline_comes_at_the_end() -> None:
    """An incomplete line is held back until it is known to be the last."""
    parser = LineParser()
    assert parser.feed(b"half") == []
    assert parser.pending_bytes == 4
    assert [line.raw for line in parser.finish()] == [b"half"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("10%\r20%\r30%\n", "30%"),
        ("10%\r20%\r\n", "20%"),
        ("windows\r\n", "windows"),
        ("windows\r\r\n", "windows"),
        ("\r\n", ""),
        ("\rnew\n", "new"),
    ],
)
def test_progress_collapses_in_text_only(raw: str, text: str) -> None:
    """A lone CR starts the visible line again; raw keeps every byte."""
    (line,) = same_however_fed(raw.encode())
    assert (line.raw, line.text) == (raw.encode(), text)


def test_invalid_utf8_is_replaced_and_kept_in_raw() -> None:
    """Bytes that are no UTF-8 become U+FFFD in text and stay themselves in raw."""
    (line,) = same_however_fed(b"a\xff\xe2\x82b\n")
    assert (line.text, line.raw) == ("a\ufffd\ufffdb", b"a\xff\xe2\x82b\n")


def test_sections_nest_and_close() -> None:
    """A line belongs to the innermost section open around it; markers leave the text."""
    data = (
        f"before\nsection_start:1:outer{MARK}\x1b[36;1mOuter\n"
        f"section_start:2:inner.x-1[collapsed=true, hide_duration=true]{MARK}Inner\nin\n"
        f"section_end:3:inner.x-1{MARK}\nback\nsection_end:4:outer{MARK}after\n"
    )
    lines = same_however_fed(data.encode())
    assert [(line.text, line.section) for line in lines] == [
        ("before", None),
        ("\x1b[36;1mOuter", "outer"),
        ("Inner", "inner.x-1"),
        ("in", "inner.x-1"),
        ("", "outer"),
        ("back", "outer"),
        ("after", None),
    ]


def test_glued_markers_are_all_seen() -> None:
    """Without timestamps the end of one section and the start of the next stand on one line."""
    data = f"section_start:1:a{MARK}x\nsection_end:2:a{MARK}section_start:2:b{MARK}y\n"
    assert [(line.text, line.section) for line in same_however_fed(data.encode())] == [("x", "a"), ("y", "b")]


def test_text_before_an_end_marker_is_inside() -> None:
    """What stands before the marker still belongs to the section."""
    data = f"section_start:1:a{MARK}x\nlast section_end:2:a{MARK}\nout\n"
    assert [line.section for line in same_however_fed(data.encode())] == ["a", "a", None]


def test_end_without_start_is_ignored_and_outer_end_closes_inner() -> None:
    """Unbalanced markers never break the nesting of the others."""
    data = (
        f"section_end:1:zero{MARK}a\nsection_start:1:o{MARK}b\nsection_start:1:i{MARK}c\n"
        f"section_end:1:o{MARK}d\n"
    )
    assert [(line.text, line.section) for line in same_however_fed(data.encode())] == [
        ("a", None),
        ("b", "o"),
        ("c", "i"),
        ("d", None),
    ]


def test_endless_nesting_is_bounded() -> None:
    """A log that only opens sections does not grow the memory."""
    parser = LineParser()
    for n in range(10 * MAX_OPEN_SECTIONS):
        parser.feed(f"section_start:1:s{n}{MARK}\n".encode())
    assert len(parser._sections) == MAX_OPEN_SECTIONS


def test_a_word_like_a_marker_is_text() -> None:
    """Only the full marker, with its CR and erase sequence, is one."""
    assert texts("section_start:1:a\nsection_start:x:a\r\x1b[0Kz\n") == ["section_start:1:a", "\x1b[0Kz"]


def test_timestamped_lines() -> None:
    """Headers become a time and a stream, and leave the text."""
    lines = same_however_fed((entry("one", 5) + entry("two", 6, kind="E")).encode())
    assert [(line.text, line.stream) for line in lines] == [("one", "stdout"), ("two", "stderr")]
    assert lines[0].timestamp == datetime(2024, 5, 1, 12, 0, 0, 5, tzinfo=UTC)


def test_first_line_decides_about_headers() -> None:
    """In a trace that begins without header, something that looks like one is text."""
    assert texts("plain\n" + entry("x")) == ["plain", entry("x").rstrip("\n")]
    lines = same_however_fed((entry("x") + "notice of the runner\n" + entry("y")).encode())
    assert [(line.text, line.timestamp is None) for line in lines] == [
        ("x", False),
        ("notice of the runner", True),
        ("y", False),
    ]


def test_continued_entry_joins_its_own_stream() -> None:
    """`+` joins the entry before it of the same stream and kind, not the one just above."""
    data = (
        entry("10%\r", 1)
        + entry("other", 2, stream="00")
        + entry("err\r", 3, kind="E")
        + entry("20%\r", 4, flag="+")
        + entry("done", 5, flag="+")
        + entry("err2", 6, kind="E", flag="+")
    )
    lines = same_however_fed(data.encode())
    assert [(line.text, line.stream) for line in lines] == [
        ("other", "stdout"),
        ("done", "stdout"),
        ("err2", "stderr"),
    ]
    assert [line.timestamp.microsecond for line in lines if line.timestamp] == [2, 1, 3]


def test_marker_entry_is_continued() -> None:
    """A marker is flushed as an entry of its own and the text after it is the same line."""
    data = entry(f"section_start:1:step{MARK}", stream="00") + entry("Title", stream="00", flag="+")
    assert [(line.text, line.section) for line in same_however_fed(data.encode())] == [("Title", "step")]


def test_full_entries_do_not_wait() -> None:
    """An entry that cannot be continued comes out at once, although its stream is silent afterwards."""
    parser = LineParser()
    assert [line.text for line in parser.feed(entry("now").encode())] == ["now"]


def test_waiting_entry_comes_out_when_not_continued() -> None:
    """A line that ended in CR comes out with the next full entry of its stream, bytes never twice."""
    data = entry("crlf\r", 1) + entry("between", 2, stream="00") + entry("next", 3)
    lines = same_however_fed(data.encode())
    assert [(line.text, bool(line.raw)) for line in lines] == [
        ("between", True),
        ("crlf", False),
        ("next", True),
    ]


def test_plus_without_a_beginning_is_a_line() -> None:
    """A continuation whose beginning was never seen is delivered as it is."""
    assert texts(entry("tail", flag="+") + entry("x")) == ["tail", "x"]


def test_long_buffered_entry_is_joined() -> None:
    """A line flushed at 8 KiB without newline goes on in the next entry."""
    data = entry("a" * 8192) + entry("b", flag="+")
    assert texts(data) == ["a" * 8192 + "b"]


def test_long_lines_come_in_parts_with_one_number() -> None:
    """A line over the limit is cut, not inside a character, and the next line has the next number."""
    data = ("é" * 40 + "\nshort\n").encode()
    lines = same_however_fed(data, max_line=33)
    assert "".join(line.text for line in lines[:-1]) == "é" * 40
    assert max(len(line.raw) for line in lines) <= 33
    assert [line.number for line in lines] == [1] * (len(lines) - 1) + [2]


def test_long_timestamped_lines_keep_their_stamp_in_the_first_part() -> None:
    """The first part has time and stream of its header; the next ones are text, and nothing is lost."""
    data = (entry("x" * 200, 7) + entry("y", 8)).encode()
    lines = same_however_fed(data, max_line=64)
    assert "".join(line.text for line in lines) == "x" * 200 + "y"
    assert max(len(line.raw) for line in lines) <= 64
    assert [line.number for line in lines] == [1] * (len(lines) - 1) + [2]
    first, *others = lines
    assert (first.timestamp and first.timestamp.microsecond, first.stream) == (7, "stdout")
    assert {(line.timestamp, line.stream) for line in others[:-1]} == {(None, None)}


@pytest.mark.parametrize("data", [b"\x80" * 100, "é".encode() * 50, "€".encode() * 33, "😀".encode() * 25])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7, 8, 10])
def test_no_limit_is_too_small_and_no_byte_too_odd(data: bytes, limit: int) -> None:
    """Characters are cut only where they do not fit at all, and what is no text is cut anywhere."""
    lines = same_however_fed(data + b"\n", max_line=limit)
    assert max(len(line.raw) for line in lines) <= limit
    if limit > 4 and data[0] != 0x80:
        assert "".join(line.text for line in lines) == data.decode()


def test_impossible_stamps_are_no_time() -> None:
    """A header whose digits are no date is a header all the same."""
    (line,) = same_however_fed(b"2024-13-41T12:00:00.000000Z 01O text\n")
    assert (line.text, line.stream, line.timestamp) == ("text", "stdout", None)


def test_no_more_than_a_line_is_kept_back() -> None:
    """Parts of a long line come out with the bytes that bring them, be they a line's first or its last."""
    parser = LineParser(max_line=10)
    for data in (b"a\n" + b"x" * 100, b"x" * 100, b"", b"x\n" + b"y" * 11):
        parser.feed(data)
        assert parser.pending_bytes <= 10


def test_text_on_both_sides_of_a_marker_is_one_line() -> None:
    """A marker leaves no trace in the text; the line is of the section that was entered."""
    (line,) = same_however_fed(f"a section_start:1:s{MARK}b\n".encode())
    assert (line.text, line.section) == ("a b", "s")


@pytest.mark.parametrize(
    ("entries", "numbers"),
    [
        ([entry("a"), entry("b"), "no header\n", entry("c")], [1, 2, 3, 4]),
        ([entry("a\r"), entry("b", flag="+"), entry("c")], [1, 2]),
        ([entry("a", flag="+"), entry("b", flag="+"), entry("c")], [1, 2, 3]),
        ([entry("a\r", flag="+"), entry("b", flag="+"), entry("c")], [1, 2]),
        ([entry("a\r"), entry("x", stream="00"), entry("b", flag="+"), entry("c")], [2, 1, 3]),
        ([entry("a\r"), entry("b\r"), entry("c")], [1, 2, 3]),
    ],
)
def test_lines_of_timestamped_traces_are_numbered(entries: list[str], numbers: list[int]) -> None:
    """A line has the number of the place where it began, however many entries it goes on for."""
    assert [line.number for line in same_however_fed("".join(entries).encode())] == numbers


def test_where_a_parser_stands() -> None:
    """Position and number go on from where they were told to begin, by what has come out."""
    parser = LineParser(offset=100, number=7)
    assert (parser.offset, parser.number, parser.pending_bytes) == (100, 7, 0)
    (line,) = parser.feed(b"a\nhal")
    assert (line.offset, line.number) == (100, 8)
    assert (parser.offset, parser.number, parser.pending_bytes) == (102, 8, 3)
    assert [line.offset for line in parser.finish()] == [102]
    assert (parser.offset, parser.number, parser.pending_bytes) == (105, 9, 0)


def test_line_of_exactly_the_limit_is_whole() -> None:
    """The newline counts; one byte more makes a second part."""
    assert [line.raw for line in same_however_fed(b"x" * 9 + b"\n", max_line=10)] == [b"x" * 9 + b"\n"]
    assert [line.raw for line in same_however_fed(b"x" * 10 + b"\n", max_line=10)] == [b"x" * 10, b"\n"]


def test_endless_progress_is_bounded() -> None:
    """A progress bar that never ends its line does not grow the memory beyond the limit."""
    parser = LineParser(max_line=1000)
    seen = parser.feed(entry("0%\r").encode())
    for n in range(200):
        seen += parser.feed(entry(f"{n}%\r", flag="+").encode())
        assert parser.pending_bytes <= 1100
    assert seen


pieces = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"text",
        "é€😀".encode(),
        b"\xff\xc3",
        b"\0",
        f"section_start:1:a{MARK}".encode(),
        f"section_end:1:a{MARK}".encode(),
        f"section_start:1:b[collapsed=true]{MARK}".encode(),
        entry("x").encode(),
        entry("y\r").encode(),
        entry("z\r", flag="+").encode(),
        entry("w", stream="00", flag="+").encode(),
        entry("e\r", kind="E").encode(),
        b"long " * 20,
        STAMP.format(3).encode()[:20],
    ]
)


@given(st.lists(pieces | st.binary(max_size=40), max_size=30), st.lists(st.integers(0, 60), max_size=30))
def test_any_split_gives_the_same_lines(parts: list[bytes], sizes: list[int]) -> None:
    """Whatever the bytes and however they are cut: the same lines, and every byte once."""
    data = b"".join(parts)
    for max_line in (1 << 20, 64):
        whole = same_however_fed(data, max_line=max_line)
        assert parse(data, *sizes, max_line=max_line) == whole
