"""What an outcome means to a shell: the exit code, and the one line that explains it.

Pure: errors in, a number or a sentence out. The line says what happened, where, and what to do;
the library's errors bring the first two, this room adds the third.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

import asyncjobs
from asyncjobs.cli.text import plain


class ExitCode(enum.IntEnum):
    """The numbers the command ends with."""

    OK = 0
    FAILED = 1
    """Something failed; everything else was done."""
    USAGE = 2
    """The command line or the configuration is wrong; nothing was sent."""
    NOT_AUTHORISED = 3
    NOTHING_MATCHED = 4
    """Nothing was there to work on, and `--allow-empty` was not given."""
    DISK_FULL = 5
    INTERRUPTED = 130
    """Ctrl-C, or another SIGINT."""
    BROKEN_PIPE = 141
    """Whoever read standard output went away; nothing is said about it."""
    TERMINATED = 143
    """SIGTERM."""


class UsageError(ValueError):
    """What was typed cannot be done; the message says why and what is accepted. Nothing was sent for it."""


class NothingMatched(asyncjobs.AsyncJobsError):
    """What was named is there, and nothing in it is what was asked for."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside a group, however deep, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


_USAGE = (asyncjobs.ConfigurationError, UsageError)


def exit_code(error: BaseException) -> ExitCode:
    """The code for an error that ended the command."""
    return exit_code_of_many(leaves(error), done=0)


def exit_code_of_many(errors: Iterable[BaseException | None], *, done: int) -> ExitCode:
    """The code for several failures beside *done* things that went well.

    A full disk and a refused token win, because both stop everything that would follow. Otherwise
    a permission problem is only the whole story when nothing at all went well.
    """
    known = [error for error in errors if error is not None]
    if any(isinstance(error, BrokenPipeError) for error in known):
        return ExitCode.BROKEN_PIPE
    if any(isinstance(error, asyncjobs.DiskFullError) or _errno(error) == errno.ENOSPC for error in known):
        return ExitCode.DISK_FULL
    if any(isinstance(error, asyncjobs.AuthenticationError) for error in known):
        return ExitCode.NOT_AUTHORISED
    if known and not done and all(_is_forbidden(error) for error in known):
        return ExitCode.NOT_AUTHORISED
    if known and not done and all(isinstance(error, _USAGE) for error in known):
        return ExitCode.USAGE
    if known and not done and all(isinstance(error, NothingMatched) for error in known):
        return ExitCode.NOTHING_MATCHED
    return ExitCode.FAILED


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _is_forbidden(error: BaseException) -> bool:
    """A 403 about rights. GitLab sends one for the state of a job too: `Job is not retryable`."""
    return isinstance(error, asyncjobs.ForbiddenError) and "Job is not" not in error.message


TOKEN_ADVICE: ContextVar[str] = ContextVar("asyncjobs.token_advice", default="look at GITLAB_TOKEN")
"""What to do about a token that does not open this; the settings of a run know where it came from."""

# Most specific first: the first class that fits gives the advice. The library's text says what is
# wrong in words for programs; these say which flag or variable a person would turn ({token}: TOKEN_ADVICE).
_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (asyncjobs.AuthenticationError, "{token}"),
    (asyncjobs.ForbiddenError, "it needs scope read_api to read or api to change, and a role that may"),
    (asyncjobs.NotFoundError, "check the spelling; if it is private, {token}"),
    (asyncjobs.RateLimitedError, "wait, then run it again with fewer targets"),
    (asyncjobs.OutcomeUnknownError, "look with `asyncjobs show` before doing it again"),
    (asyncjobs.ServerError, "the server is at fault: try again later"),
    (asyncjobs.RedirectError, "check that --url is the address GitLab itself uses, https included"),
    (asyncjobs.BadResponseError, "check that --url is a GitLab and not a login page or proxy"),
    (asyncjobs.CertificateError, "on the command line that is --ca-file"),
    (asyncjobs.TooManyFilesError, "raise `ulimit -n` or do less at once"),
    (asyncjobs.RequestTimeout, "try again, or allow more with --timeout and --connect-timeout"),
    (asyncjobs.ConnectError, "check --url (or GITLAB_URL) and --proxy"),
    (asyncjobs.TruncatedBodyError, "run it again: what is whole was kept"),
    (asyncjobs.ProtocolError, "try again; if it stays, look at the proxy in between"),
    (asyncjobs.TraceTooLargeError, "use --follow or `asyncjobs tail`, which stream it"),
    (asyncjobs.DiskFullError, "free some space and run it again: what is whole was kept"),
)


def explain(error: BaseException, *, missing: str = "") -> str:
    """One line: what happened, where, what to do. Safe for a terminal, without a trailing newline.

    Args:
        error: What went wrong.
        missing: What to do when the server did not find it, where the caller knows better than "check".
    """
    said = plain(_what(error)) or type(error).__name__
    if not isinstance(error, asyncjobs.AsyncJobsError | OSError | ValueError):
        # Nobody foresaw it, so the class is the best clue there is.
        return (
            f"{type(error).__name__}: {said}; this is a bug in asyncjobs: run it again with -vv and report it"
        )
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
    advice = advice.replace("{token}", TOKEN_ADVICE.get())
    if isinstance(error, asyncjobs.ForbiddenError) and not _is_forbidden(error):
        advice = "its status does not allow it, or your role: see `asyncjobs show`"
    if isinstance(error, asyncjobs.DestinationError) and said.startswith("cannot use"):
        advice = "choose another place, or make this one writable"
    if missing and isinstance(error, asyncjobs.NotFoundError):
        advice = missing
    if isinstance(error, asyncjobs.ResponseError) and "Unplayable" in error.message:
        advice = "only manual and delayed jobs can be played: see `asyncjobs show`"
    if isinstance(error, asyncjobs.ServerError) and error.request_id:
        advice = f"{advice} (request id for its administrators: {plain(error.request_id)})"
    return f"{said}; {advice}" if advice else said


def _what(error: BaseException) -> str:
    """The error's own text; of an exchange the reason first, then the place without its parameters."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if not isinstance(error, asyncjobs.ExchangeError) or not error.url:
        return str(error)
    tries = f", {error.attempts} times" if error.attempts > 1 else ""
    rest = "; not tried again, as too many requests are failing" if error.budget_exhausted else ""
    return f"{error.reason} [{error.method} {error.url.partition('?')[0]}{tries}]{rest}"
