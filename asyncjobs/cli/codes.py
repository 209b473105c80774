"""What an outcome means to a shell: the exit code, and the one line that explains it.

Pure: errors in, a number or a sentence out. The line says what happened, where, and what to do;
the library's errors bring the first two, this room adds the third.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

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


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside a group, however deep, or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


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
    if any(isinstance(error, asyncjobs.DiskFullError) for error in known):
        return ExitCode.DISK_FULL
    if any(isinstance(error, asyncjobs.AuthenticationError) for error in known):
        return ExitCode.NOT_AUTHORISED
    if known and not done and all(isinstance(error, asyncjobs.ForbiddenError) for error in known):
        return ExitCode.NOT_AUTHORISED
    if known and not done and all(isinstance(error, asyncjobs.ConfigurationError) for error in known):
        return ExitCode.USAGE
    return ExitCode.FAILED


# Most specific first: the first class that fits gives the advice.
_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (asyncjobs.AuthenticationError, "check GITLAB_TOKEN: missing, mistyped, expired or revoked"),
    (
        asyncjobs.ForbiddenError,
        "the token needs scope read_api to read or api to change, and a role that may",
    ),
    (asyncjobs.NotFoundError, "check the spelling; what a token may not see is answered the same way"),
    (asyncjobs.RateLimitedError, "wait, then run it again with fewer targets"),
    (asyncjobs.ServerError, "the server is at fault: try again later"),
    (asyncjobs.RedirectError, "check that --url is the address GitLab itself uses, https included"),
    (asyncjobs.BadResponseError, "check that --url is a GitLab and not a login page or proxy"),
    (asyncjobs.CertificateError, "give the authority that signed it with --ca-file"),
    (asyncjobs.ConnectError, "check --url (or GITLAB_URL), the network and --proxy"),
    (asyncjobs.RequestTimeout, "try again, or allow more with --timeout"),
    (asyncjobs.OutcomeUnknownError, "look with `asyncjobs show` before doing it again"),
    (asyncjobs.TruncatedBodyError, "run it again: what is whole was kept"),
    (asyncjobs.ProtocolError, "try again; if it stays, look at the proxy in between"),
    (asyncjobs.TraceTooLargeError, "use --follow or `asyncjobs tail`, which stream it"),
    (asyncjobs.DiskFullError, "free some space and run it again: what is whole was kept"),
)


def explain(error: BaseException) -> str:
    """One line: what happened, where, what to do. Safe for a terminal, without a trailing newline."""
    said = plain(error) or type(error).__name__
    if not isinstance(error, asyncjobs.AsyncJobsError | OSError | ValueError):
        # Nobody foresaw it, so the class is the best clue there is.
        return (
            f"{type(error).__name__}: {said}; this is a bug in asyncjobs: run it again with -vv and report it"
        )
    advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), None)
    request_id = getattr(error, "request_id", None)
    if request_id and isinstance(error, asyncjobs.ServerError):
        advice = f"{advice} (request id for its administrators: {plain(request_id)})"
    return f"{said}; {advice}" if advice else said
