"""Which exit code an error means, and the one line that explains it."""

from __future__ import annotations

import errno

import pytest

import asyncjobs
from asyncjobs.cli.codes import ExitCode, NothingMatched, exit_code, exit_code_of_many, explain

UNAUTHORISED = asyncjobs.AuthenticationError(
    "401 Unauthorized", status=401, method="GET", url="https://g/api/v4/job"
)
FORBIDDEN = asyncjobs.ForbiddenError("403 Forbidden", status=403)
MISSING = asyncjobs.NotFoundError(
    "404 Project Not Found", status=404, method="GET", url="https://g/api/v4/projects/1"
)
NOT_NOW = asyncjobs.ForbiddenError("403", status=403, message="403 Forbidden - Job is not retryable")
FULL = asyncjobs.DiskFullError("/data: no space left")
DOWN = asyncjobs.ServerError("502 Bad Gateway", status=502, request_id="01ABC")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UNAUTHORISED, ExitCode.NOT_AUTHORISED),
        (FORBIDDEN, ExitCode.NOT_AUTHORISED),
        (MISSING, ExitCode.FAILED),
        (DOWN, ExitCode.FAILED),
        (FULL, ExitCode.DISK_FULL),
        (asyncjobs.ConfigurationError("no address"), ExitCode.USAGE),
        (BrokenPipeError(), ExitCode.BROKEN_PIPE),
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.DISK_FULL),
        (OSError(errno.EIO, "Input/output error"), ExitCode.FAILED),
        (RuntimeError("unforeseen"), ExitCode.FAILED),
        (BaseExceptionGroup("g", [ExceptionGroup("h", [BrokenPipeError()])]), ExitCode.BROKEN_PIPE),
        (ExceptionGroup("g", [MISSING, FULL]), ExitCode.DISK_FULL),
    ],
)
def test_code_of_one_error(error: BaseException, code: ExitCode) -> None:
    """Each way to end has its number, inside a group as well."""
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("errors", "done", "code"),
    [
        ([FORBIDDEN], 0, ExitCode.NOT_AUTHORISED),
        ([FORBIDDEN], 3, ExitCode.FAILED),
        ([FORBIDDEN, MISSING], 0, ExitCode.FAILED),
        ([NOT_NOW], 0, ExitCode.FAILED),
        ([UNAUTHORISED, MISSING], 3, ExitCode.NOT_AUTHORISED),
        ([MISSING, FULL], 3, ExitCode.DISK_FULL),
        ([None], 3, ExitCode.FAILED),
        ([NothingMatched("none")], 0, ExitCode.NOTHING_MATCHED),
        ([NothingMatched("none")], 1, ExitCode.FAILED),
        ([NothingMatched("none"), MISSING], 0, ExitCode.FAILED),
    ],
)
def test_code_of_partial_failures(errors: list[BaseException | None], done: int, code: ExitCode) -> None:
    """One forbidden target is a partial failure; a refused token or a full disk is the whole story."""
    assert exit_code_of_many(errors, done=done) == code


def test_an_explanation_says_what_where_and_what_to_do() -> None:
    """The library's text comes first, then advice for the kind of error."""
    line = explain(UNAUTHORISED)
    assert line.startswith("401 Unauthorized [GET https://g/api/v4/job]; ")
    assert "GITLAB_TOKEN" in line


def test_an_explanation_of_many_attempts_counts_them() -> None:
    """How often it was tried is said; the parameters of a listing are left out."""
    error = asyncjobs.ConnectError("refused", method="GET", url="https://g/jobs?per_page=100", attempts=3)
    assert explain(error).startswith("refused [GET https://g/jobs, 3 times]; ")


def test_a_job_that_cannot_is_no_question_of_rights() -> None:
    """GitLab's 403 for a job in the wrong status is not explained with the token's scope."""
    assert "scope" not in explain(NOT_NOW)
    assert "scope" in explain(FORBIDDEN)


def test_a_servers_request_id_is_passed_on() -> None:
    """Administrators find a failure by its request id."""
    assert "01ABC" in explain(DOWN)


def test_an_explanation_is_one_safe_line() -> None:
    """An error text from a server can neither break the line nor drive the terminal."""
    line = explain(asyncjobs.NotFoundError("404 \x1b[2Jgone\r\nand more", status=404))
    assert "\x1b" not in line
    assert "\n" not in line
    assert "\r" not in line


def test_a_bug_is_called_a_bug() -> None:
    """An error nobody foresaw names its class and asks for a report."""
    assert "KeyError" in explain(KeyError("x"))
    assert "bug" in explain(KeyError("x"))


def test_an_error_of_the_system_names_its_file() -> None:
    """Numbers of errors are left out, names of files are not."""
    assert explain(OSError(errno.EACCES, "Permission denied", "/locked")) == "/locked: Permission denied"


def test_an_error_without_text_has_a_name() -> None:
    """No line is ever empty."""
    assert explain(BrokenPipeError()) == "BrokenPipeError"
