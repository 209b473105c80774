"""Every error asyncjobs raises, and the facts each one carries.

    AsyncJobsError
    |-- ConfigurationError          the client cannot be built as asked (also a ValueError)
    |-- ClosedError                 you closed it; nothing broke
    |-- ExchangeError               one HTTP exchange failed; one of the next two
    |-- RequestError                no usable answer arrived
    |   |-- ConnectError            never reached the server; nothing was executed
    |   |   |-- HostNotFoundError   the name does not resolve
    |   |   |-- CertificateError    TLS refused: unknown authority, expired, wrong name
    |   |   |-- ConnectTimeout      no connection in time (also a RequestTimeout)
    |   |   |-- ForbiddenAddressError   a redirect led to a local address
    |   |   `-- TooManyFilesError   this process has no file descriptor left
    |   |-- RequestTimeout          silence longer than a limit of `Timeouts`
    |   |-- ProtocolError           bytes that are not the HTTP we asked for
    |   |   `-- TruncatedBodyError  the body ended before it was whole
    |   `-- OutcomeUnknownError     sent, no clear answer: it may or may not have happened
    |       |-- OutcomeUnknownServerError   the same, answered by a 5xx (also a ServerError)
    |       `-- OutcomeUnreadableError      the same, answered by a 2xx with a body that cannot be read, so
    |                                       most likely it did happen (also a BadResponseError)
    |-- ResponseError               an answer arrived, and it was not the one wanted
    |   |-- AuthenticationError     401
    |   |-- ForbiddenError          403
    |   |-- NotFoundError           404
    |   |-- ConflictError           409
    |   |-- RateLimitedError        429
    |   |-- ServerError             5xx
    |   |-- RedirectError           a redirect that must not or cannot be followed
    |   `-- BadResponseError        a good status with a body GitLab does not send
    |-- TraceError                  a job's log cannot be read as asked
    |   `-- TraceTooLargeError      longer than the ceiling of a whole read
    |-- ArtifactError               an archive cannot be had or kept
    |   |-- ArtifactMissingError    never made, expired, erased or not finished: see `.reason`
    |   |-- IntegrityError          what arrived is not what was announced
    |   |-- UnsafePathError         a name that would leave its folder
    |   |-- UnsafeArchiveError      an archive that must not be unpacked
    |   `-- DestinationError        the destination cannot be written
    |       `-- DiskFullError       no space left: the whole sync ends
    |-- ManifestError               the record of a folder is damaged, locked or from another version
    `-- FanOutError                 several targets failed (also an ExceptionGroup)

The tree is cut by what a caller can do next, not by who noticed. Every error is made of plain
values, can be pickled, and holds no token: URLs are stored without userinfo and with unknown
query values replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class AsyncJobsError(Exception):
    """Base of everything this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from state, because subclasses take keyword-only facts."""
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(cls: type[AsyncJobsError], args: tuple[Any, ...], state: dict[str, Any]) -> AsyncJobsError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(AsyncJobsError, ValueError):
    """The client cannot be built from these settings; the message says which and why."""


class ClosedError(AsyncJobsError):
    """The client or stream was used after it was closed by its owner."""


class ExchangeError(AsyncJobsError):
    """What every error of one HTTP exchange knows."""

    method: str
    """The HTTP method, upper case; empty when no request was involved."""
    url: str
    """Where the request went, safe to print: no userinfo, unknown query values replaced."""
    attempts: int
    """How often the request was sent, the first time included."""
    budget_exhausted: bool
    """True when it was not tried again because too many requests were failing at once."""

    def __init__(
        self,
        reason: str,
        *,
        method: str = "",
        url: str = "",
        attempts: int = 1,
        budget_exhausted: bool = False,
    ) -> None:
        self.reason = reason
        self.method = method
        self.url = url
        self.attempts = attempts
        self.budget_exhausted = budget_exhausted
        super().__init__(reason)

    def __str__(self) -> str:
        text = self.reason
        if self.url:
            text = f"{self.method} {self.url}: {text}"
        if self.attempts > 1:
            text = f"{text} (after {self.attempts} attempts)"
        if self.budget_exhausted:
            text = f"{text} (not tried again: too many requests are failing)"
        return text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class RequestError(ExchangeError):
    """No usable answer arrived within the retry policy."""


class ConnectError(RequestError):
    """The server was not reached: unknown host, refused, unreachable. Nothing was executed."""


class CertificateError(ConnectError):
    """TLS was refused: unknown authority, expired or for another name. Never retried."""


class HostNotFoundError(ConnectError):
    """The name does not resolve."""


class ForbiddenAddressError(ConnectError):
    """A redirect led to a name with a loopback or link-local address; nothing was sent there."""


class TooManyFilesError(ConnectError):
    """The process or the system has no file descriptor left; fewer things at once will do."""


class RequestTimeout(RequestError):  # noqa: N818 -- a pinned name
    """Connecting, waiting or reading took longer than a limit of `Timeouts`."""


class ConnectTimeout(ConnectError, RequestTimeout):  # noqa: N818 -- beside RequestTimeout
    """No connection within `Timeouts.connect`. Nothing was executed."""


class ProtocolError(RequestError):
    """The peer did not speak valid HTTP, or the connection broke in the middle."""


class TruncatedBodyError(ProtocolError):
    """The body ended before it was whole: fewer bytes than announced, or a cut encoding."""


class OutcomeUnknownError(RequestError):
    """A call that changes something was sent and not answered: it may have happened.

    It is never sent again on doubt. Look at the job to find out, then decide.
    """


class ResponseError(ExchangeError):
    """An answer arrived and was not the one wanted."""

    status: int
    """The HTTP status."""
    message: str
    """What the server said, one line, safe to print; may be empty."""
    request_id: str | None
    """`X-Request-Id` of the answer, for the administrators of the server."""
    retry_after: float | None
    """Seconds the server asked to wait, or None when it did not say."""
    from_storage: bool
    """True when another origin than the API answered, as object storage does after a redirect."""
    no_route: bool
    """True when GitLab said in its own words that it has no such endpoint, rather than no such thing."""

    def __init__(
        self,
        reason: str,
        *,
        status: int,
        message: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
        from_storage: bool = False,
        no_route: bool = False,
        method: str = "",
        url: str = "",
        attempts: int = 1,
        budget_exhausted: bool = False,
    ) -> None:
        super().__init__(reason, method=method, url=url, attempts=attempts, budget_exhausted=budget_exhausted)
        self.status = status
        self.message = message
        self.request_id = request_id
        self.retry_after = retry_after
        self.from_storage = from_storage
        self.no_route = no_route


class AuthenticationError(ResponseError):
    """401: no token, a wrong or expired one, or a job token where none is accepted."""


class ForbiddenError(ResponseError):
    """403: the token is known and not allowed to do this."""


class NotFoundError(ResponseError):
    """404: it does not exist, or the token may not see that it does."""


class ConflictError(ResponseError):
    """409: the object is locked or being changed."""


class RateLimitedError(ResponseError):
    """429: too many requests, and waiting longer was not allowed by `RetryPolicy`."""


class ServerError(ResponseError):
    """5xx: the server or something in front of it failed."""


class OutcomeUnknownServerError(OutcomeUnknownError, ServerError):
    """A call that changes something was answered by a 5xx that does not say whether it happened."""


class RedirectError(ResponseError):
    """A redirect that must not be followed (downgrade, write, forbidden address) or never ends."""


class BadResponseError(ResponseError):
    """The status was good and the body is not what GitLab sends: a login page, wrong JSON, too large."""


class OutcomeUnreadableError(OutcomeUnknownError, BadResponseError):
    """A call that changes something was answered by success, and what it made cannot be read.

    The body was cut, or is not what GitLab sends. Most likely the call was executed: do not repeat it
    blindly, look at the job with `get_job`.
    """


class TraceError(AsyncJobsError):
    """A job's log cannot be read as asked."""


class TraceTooLargeError(TraceError):
    """The log is longer than the ceiling of a whole read; read it in parts or follow it."""


class ArtifactError(AsyncJobsError):
    """An archive cannot be had or kept."""


class ArtifactMissingError(ArtifactError):
    """There is nothing to download."""

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason
        """One word: `none`, `expired`, `erased`, `forbidden`, `not_finished`, `too_large`, `lost`."""


class IntegrityError(ArtifactError):
    """What arrived is not what was announced: length, structure or hash. Nothing was kept."""


class UnsafePathError(ArtifactError):
    """A name that would leave its folder or mislead a file system."""


class UnsafeArchiveError(ArtifactError):
    """An archive that must not be unpacked; nothing was."""


class DestinationError(ArtifactError):
    """The destination cannot be written: missing, not permitted, or not a regular file or folder."""


class DiskFullError(DestinationError):
    """No space is left on the disk; raised once, for the whole operation."""


class ManifestError(AsyncJobsError):
    """The record of a synced folder is damaged, in use, or written by a newer version."""


class FanOutError(AsyncJobsError, ExceptionGroup[AsyncJobsError]):
    """Some targets of a fan-out failed; every other one was finished first.

    `.exceptions` has the errors; `.failures` the same errors beside their targets.
    """

    failures: tuple[Any, ...]
    """`TargetFailure` values in the order in which they happened."""

    def __new__(cls, message: str, exceptions: Sequence[AsyncJobsError], *_: object) -> Self:
        """Build the group; the extra argument belongs to `__init__`."""
        return super().__new__(cls, message, exceptions)

    def __init__(
        self, message: str, exceptions: Sequence[AsyncJobsError], failures: Sequence[Any] = ()
    ) -> None:
        self.failures = tuple(failures)
        super().__init__(message, exceptions)

    def derive(self, excs: Sequence[AsyncJobsError]) -> FanOutError:  # type: ignore[override]
        """Keep the type when the group is split, with the failures that remain."""
        kept = [failure for failure in self.failures if failure.error in excs]
        return FanOutError(self.message, excs, kept)
