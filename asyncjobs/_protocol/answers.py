"""What an answer means: the error behind a status and its body, and what it says about rate limits.

GitLab's error bodies come in many shapes (JSON `message`, JSON `error`, nested, text, HTML, XML of
an object store, empty); all become one printable line.
GitLab: https://docs.gitlab.com/api/rest/troubleshooting/, lib/gitlab/rack_attack.rb
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import attrs
import msgspec

from asyncjobs._errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    ResponseError,
    ServerError,
)
from asyncjobs._protocol.urls import printable

_RESET_RANGE_SECONDS = (1.0, 300.0)
_LONGEST_NUMBER = 12  # digits; anything longer is not a number of seconds


@attrs.frozen
class RateFacts:
    """What the headers of one answer say about waiting."""

    retry_after: float | None = None
    """Seconds from now; the least a caller must wait."""
    remaining: int | None = None
    """Requests left in the server's window (never computed from Limit and Observed, which lie)."""
    reset_in: float | None = None
    """Seconds until the window ends, between 1 and 300, or None."""


_LIMIT_HEADERS = ("retry-after", "ratelimit-remaining", "ratelimit-reset", "ratelimit-resettime")


def speaks_of_limits(headers: Mapping[str, str]) -> bool:
    """Whether `rate_facts` would find anything."""
    return any(name in headers for name in _LIMIT_HEADERS)


def rate_facts(headers: Mapping[str, str], *, now: float) -> RateFacts:
    """Read Retry-After and the RateLimit headers; *now* is used where the answer has no Date."""
    date = _http_date(headers.get("date"))
    reference = now if date is None else date
    reset = _seconds(headers.get("ratelimit-reset"))
    if reset is None:
        reset = _http_date(headers.get("ratelimit-resettime"))
    low, high = _RESET_RANGE_SECONDS
    return RateFacts(
        retry_after=_retry_after(headers.get("retry-after"), reference),
        remaining=_count(headers.get("ratelimit-remaining")),
        reset_in=None if reset is None else min(high, max(low, reset - reference)),
    )


def server_time(headers: Mapping[str, str]) -> float | None:
    """The answer's `Date` as seconds since the epoch."""
    return _http_date(headers.get("date"))


def _retry_after(value: str | None, reference: float) -> float | None:
    seconds = _seconds(value)
    if seconds is None:
        moment = _http_date(value)
        seconds = None if moment is None else moment - reference
    return None if seconds is None else max(0.0, seconds)


def _seconds(value: str | None) -> float | None:
    text = (value or "").strip()
    if not re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) or len(text) > _LONGEST_NUMBER:
        return None
    return float(text)


def _count(value: str | None) -> int | None:
    seconds = _seconds(value)
    return None if seconds is None else max(0, int(seconds))


def _http_date(value: str | None) -> float | None:
    if not value or len(value) > 64:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def error_message(content_type: str, body: bytes) -> str:
    """What the server said, as one printable line; empty when it said nothing a person can use."""
    text = body[:65_536].decode("utf-8", "replace").strip()
    if not text:
        return ""
    if text[0] in '{["':
        try:
            return printable(_from_json(msgspec.json.decode(text)))
        except (msgspec.DecodeError, RecursionError, ValueError):
            return printable(text)
    if "<Code>" in text:
        # The error document of an object store: the cause is in Code and Message.
        code, message = (re.search(rf"<{tag}>([^<]*)</{tag}>", text) for tag in ("Code", "Message"))
        return printable(": ".join(match[1] for match in (code, message) if match))
    if "html" in content_type or text[:15].lower().startswith(("<!doctype", "<html")):
        title = re.search(r"<title>([^<]*)</title>", text, re.IGNORECASE)
        return printable(f"HTML page {title[1].strip()!r}" if title else "an HTML page")
    return printable(text)


def _from_json(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case {"message": message}:
            return _from_json(message)
        case {"error": str(error), "error_description": str(description)}:
            return f"{error}: {description}"
        case {"error": error}:
            return _from_json(error)
        case dict():
            return "; ".join(f"{key} {_from_json(each)}" for key, each in value.items())
        case list():
            return ", ".join(_from_json(each) for each in value)
        case _:
            return str(value)


_HINTS = {
    401: "the token is missing, wrong, expired or not accepted here",
    403: "the token may not do this",
    404: "it does not exist, or the token may not see it",
    407: "this is the proxy: give its user and password in the proxy's URL",
}

_BY_STATUS: dict[int, type[ResponseError]] = {
    401: AuthenticationError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitedError,
}


def error_class(status: int) -> type[ResponseError]:
    """The class of the error tree that stands for *status*."""
    if status >= 500:
        return ServerError
    return _BY_STATUS.get(status, ResponseError)


def response_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    method: str,
    url: str,
    now: float,
    from_storage: bool,
    hint: str = "",
) -> ResponseError:
    """The typed error for an answer that is not the one wanted.

    Args:
        status: The HTTP status.
        headers: Lower-case names.
        body: At most the first 64 KiB.
        method: Upper case.
        url: Already safe to print.
        now: Seconds since the epoch.
        from_storage: Another origin than the API answered.
        hint: What to do, in place of the usual words for this status.
    """
    message = error_message(headers.get("content-type", "").lower(), body)
    hint = hint or ("" if from_storage else _HINTS.get(status, ""))
    told = (
        f"{status} {message}" if message and not message.startswith(str(status)) else message or str(status)
    )
    facts = rate_facts(headers, now=now)
    return error_class(status)(
        f"{told} ({hint})" if hint else told,
        status=status,
        message=message,
        request_id=request_id(headers),
        retry_after=facts.reset_in if facts.retry_after is None and status == 429 else facts.retry_after,
        from_storage=from_storage,
        no_route=status == 404 and not from_storage and _means_no_route(body),
        method=method,
        url=url,
    )


def _means_no_route(body: bytes) -> bool:
    """Whether a 404 is for the path itself (lib/api/api.rb); for a thing it is a `message`, or plain text."""
    try:
        return bool(msgspec.json.decode(body) == {"error": "404 Not Found"})
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False


def request_id(headers: Mapping[str, str]) -> str | None:
    """The server's own name for the exchange (GitLab's or the object store's)."""
    for name in ("x-request-id", "x-amz-request-id", "x-goog-request-id"):
        if name in headers:
            return printable(headers[name], limit=100)
    return None
