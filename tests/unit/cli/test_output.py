"""When colours are wanted, and what each stream is for."""

from __future__ import annotations

import asyncio
import io

import pytest

from asyncjobs.cli.output import News, console_for, wants_colour


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is, while it is open."""
        super().isatty()
        return True


@pytest.mark.parametrize(
    ("terminal", "environ", "no_color", "colour"),
    [
        (True, {}, False, True),
        (False, {}, False, False),
        (True, {}, True, False),
        (True, {"NO_COLOR": "1"}, False, False),
        (True, {"NO_COLOR": ""}, False, True),
        (True, {"TERM": "dumb"}, False, False),
        (False, {"FORCE_COLOR": "1"}, False, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        (False, {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colours(terminal: bool, environ: dict[str, str], no_color: bool, colour: bool) -> None:
    """A flag wins, then NO_COLOR, then FORCE_COLOR, then what the stream is."""
    stream = Terminal() if terminal else io.StringIO()
    assert wants_colour(stream, environ, no_color=no_color) is colour


def test_a_closed_stream_is_no_terminal() -> None:
    """A stream that was closed under us has no colours and no error."""
    stream = Terminal()
    stream.close()
    assert not wants_colour(stream, {}, no_color=False)


def test_text_is_never_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets, emoji codes and numbers in a server's words come out as they are."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stream = io.StringIO()
    console_for(stream, no_color=False).print("[bold]x[/bold] :smile: 42")
    assert stream.getvalue() == "[bold]x[/bold] :smile: 42\n"


def test_quiet_news_are_errors_only() -> None:
    """With --quiet, news are silent; warnings and errors are not."""
    stream = io.StringIO()
    news = News(quiet=True, no_color=True, stream=stream)
    news.say("nobody hears this")
    news.warn("careful")
    news.error("broken")
    assert stream.getvalue() == "asyncjobs: careful\nasyncjobs: broken\n"


@pytest.mark.parametrize(("seconds", "seen"), [(0.5, False), (1.5, True)])
async def test_a_long_wait_is_shown_to_a_person(
    seconds: float, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes longer than a second is said on a terminal; pipes and --quiet hear nothing of it."""
    monkeypatch.setenv("TERM", "xterm")
    for stream, quiet, shown in (
        (Terminal(), False, seen),
        (Terminal(), True, False),
        (io.StringIO(), False, False),
    ):
        with News(no_color=True, quiet=quiet, stream=stream).waiting("listing jobs"):
            await asyncio.sleep(seconds)
        assert ("listing jobs" in stream.getvalue()) is shown


def test_an_error_is_one_line_however_long() -> None:
    """A long error is not folded, so that it can be searched for."""
    stream = io.StringIO()
    News(no_color=True, stream=stream).error("x " * 500)
    assert stream.getvalue().count("\n") == 1


def test_a_console_without_a_reader_is_an_error_like_any_other() -> None:
    """A reader that left is told to the caller, who knows the exit code; rich would exit by itself."""

    class Abandoned(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        console_for(Abandoned(), no_color=False).print("x")
