"""What reaches a terminal: text, newlines, tabs and short colour sequences, and nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._trace.terminal import TerminalFilter, sanitize_line, sanitize_text

SAFE = re.compile(
    "(?:[^\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]|\x1b\\[[0-9;:]{0,61}m)*"
)


def show(*pieces: str | bytes, color: bool = True, redraw: bool = False) -> str:
    """What is shown of the pieces."""
    terminal = TerminalFilter(color=color, redraw=redraw)
    return "".join(terminal.feed(piece) for piece in pieces) + terminal.finish()


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("grüße 😀\n", "grüße 😀\n"),
        ("\x1b[32;1mgreen\x1b[0;m\n", "\x1b[32;1mgreen\x1b[0;m\n"),
        ("\x1b[38:2:1:2:3mx\x1b[m", "\x1b[38:2:1:2:3mx\x1b[m"),
        ("\x1b[0Kline", "line"),
        ("\x1b[2J\x1b[Hgone?", "gone?"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;ZXZpbA==\x1b\\x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdcs\x1b\\x\x1b_apc\x1b\\y\x1b^pm\x1b\\z\x1bXsos\x1b\\", "xyz"),
        ("\x1b]0;never closed\nnext line", "\nnext line"),
        ("\x1b]0;a\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("\x1bcx\x1b(By\x1b#8z", "xyz"),
        ("a\x07\x08\x0b\x0c\x00\x7fb", "ab"),
        ("\u009b31mred\u0090dcs\u009cx\u0085y", "redxy"),
        ("a\u202eb\u2066c", "a\ufffdb\ufffdc"),
        ("\x1b[?25lx\x1b[6ny\x1b[>0mz\x1b[1$mw", "xyzw"),
        ("\x1b[31", ""),
        ("\x1b", ""),
        ("\x1b[3\x1b[31mx\x1b[0m", "\x1b[31mx\x1b[0m"),
        ("\x1b[3é", "é"),
        ("10%\r20%\r\nx", "10%\n20%\nx"),
        ("end\r", "end\n"),
        ("\ud800x", "\ufffdx"),
    ],
)
def test_only_text_and_colours_pass(given_text: str, shown: str) -> None:
    """Each kind of sequence, whole and character by character."""
    assert show(given_text) == shown
    assert show(*given_text) == shown


def test_stray_c1_bytes_are_controls_too() -> None:
    """0x80-0x9F outside of UTF-8 act as C1 controls on some terminals: dropped with their sequence."""
    assert show(b"a\x9b31mb\x9d0;title\x07c\x85d\xffe\xe2\x82") == "abcd\ufffde\ufffd"


def test_characters_split_between_feeds_survive() -> None:
    """UTF-8 is decoded incrementally."""
    data = "é€😀\n".encode()
    assert show(*(data[i : i + 1] for i in range(len(data)))) == "é€😀\n"


def test_open_colours_are_reset_at_the_end() -> None:
    """One job's colour does not run into the next job's line."""
    assert sanitize_line("\x1b[31mred") == "\x1b[31mred\x1b[0m"
    assert sanitize_line("\x1b[31mred", color=False) == "red"
    assert sanitize_line("plain") == "plain"


@pytest.mark.parametrize(
    "unfinished", ["\x1b]0;title", "\x1b[3", "\x1b", "\x1bPx\x1b", "\x1b#", b"\xe2\x82", "x\r"]
)
def test_nothing_of_a_stream_is_left_for_the_next(unfinished: str | bytes) -> None:
    """What a log did not finish ends with it, colours included; the filter may be used again."""
    terminal = TerminalFilter()
    assert terminal.feed("\x1b[31mred") == "\x1b[31mred"
    terminal.feed(unfinished)
    assert terminal.finish().endswith("\x1b[0m")
    assert terminal.feed("1mback") == "1mback"
    assert terminal.feed(b"1mback") == "1mback"
    assert terminal.finish() == ""


def test_overlong_colours_are_dropped() -> None:
    """A colour sequence has at most 64 characters."""
    longest = "\x1b[" + "1" * 61 + "m"
    assert len(longest) == 64
    assert show(longest + "x") == longest + "x\x1b[0m"
    assert show(*longest) == longest + "\x1b[0m"
    assert show("\x1b[" + "1" * 62 + "mx") == "x"
    assert show(*("\x1b[" + "1" * 62 + "mx")) == "x"


def test_redraw_keeps_progress_on_one_line() -> None:
    """On request a lone CR redraws the line instead of beginning another."""
    assert show("1%\r2%\r\n", redraw=True) == "1%\r\x1b[K2%\n"


def test_endless_sequences_hold_nothing() -> None:
    """Ten megabytes of an unterminated title or colour are forgotten as they come."""
    for begin in ("\x1b]0;", "\x1b[", "\x1bP"):
        terminal = TerminalFilter()
        terminal.feed(begin)
        for _ in range(10):
            assert terminal.feed("1" * (1 << 20)) == ""
            assert len(terminal._held) <= 64
        assert "".join(terminal.feed("m\nback")).endswith("\nback")


def test_names_are_one_line_without_escapes() -> None:
    """A job name cannot colour, break the line or move the cursor."""
    assert sanitize_text("a\x1b[31mb\nc\td\re\u2028f\x9b2Jg") == "ab c d e fg"
    assert sanitize_text("a\u2028b\u2029c\td") == "a b c d"
    assert sanitize_text("build: [linux, amd64] ✓") == "build: [linux, amd64] ✓"


bits = st.sampled_from(
    [
        "\x1b",
        "\x1b[",
        "\x1b]",
        "\x9b",
        "\x9c",
        "\x07",
        "\\",
        "m",
        "31",
        ";",
        "?",
        "\r",
        "\n",
        "x",
        "\u202e",
        "é",
    ]
)
noise = st.lists(bits | st.text(max_size=3) | st.characters(max_codepoint=0xFF), max_size=40).map("".join)


@given(noise, st.lists(st.integers(0, 20), max_size=10), st.booleans())
def test_any_text_is_safe_however_it_is_split(text: str, sizes: list[int], color: bool) -> None:
    """Random text matches the grammar of what may be shown, and no split changes it."""
    whole = show(text, color=color)
    assert SAFE.fullmatch(whole)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    assert show(*pieces, text[at:], color=color) == whole
    assert show(*text, color=color) == whole
    assert sanitize_text(text).isprintable() or not (set(sanitize_text(text)) & set("\x1b\n\r\t\x00\x9b"))


@given(
    st.lists(
        st.binary(max_size=8) | st.sampled_from([b"\x1b[", b"\x1b]", b"\x9b", b"\xc2\x9b", b"\xe2\x80\xae"]),
        max_size=30,
    )
)
def test_any_bytes_are_safe_however_they_are_split(parts: list[bytes]) -> None:
    """Random bytes match the grammar, and feeding them one by one changes nothing."""
    data = b"".join(parts)
    whole = show(data)
    assert SAFE.fullmatch(whole)
    assert show(*parts) == whole
    assert show(*(data[i : i + 1] for i in range(len(data)))) == whole
