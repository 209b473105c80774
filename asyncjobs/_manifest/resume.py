"""May these bytes be added to the ones we have? Validators, the table of answers to a range, the overlap.

The rules are those of RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range), 14.4 (Content-Range) and
15.3.7 (206), read strictly: whatever is odd starts over, and nothing is ever spliced. As a store may keep its
ETag while the object changes, a range begins before the end of what is here, and that piece must come again.
It knows nothing of connections or files; the caller carries out the word it gets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import attrs

CONSTANT_ETAG = 'W/"12ae32cb1ec02d01eda3581b127c1fee"'
"""GitLab's ETag of an empty Rails body, the same on every download: it proves nothing
(https://gitlab.com/gitlab-org/gitlab/-/issues/371991)."""

OVERLAP_BYTES = 64 * 1024
"""Asked for again with each resume, and compared. As much as one turn of the disk and the wire costs anyway;
what is shorter than this is not worth a resume."""

_STRONG = re.compile(r'"[\x21\x23-\x7e]+"')
_SHA256 = re.compile(r'"([0-9a-f]{64})"')
_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)", re.IGNORECASE)


class Resume(StrEnum):
    """What to do with the body of an answer."""

    START = "start"
    """Nothing is here; the body is the file from its first byte."""
    APPEND = "append"
    """The body begins where it was asked to, inside our bytes, and goes on after them."""
    REWRITE = "rewrite"
    """Throw our bytes away; the body is the whole file."""
    ASK_AGAIN = "ask_again"
    """Throw our bytes away and do not read this body: ask without a range."""
    REFUSE = "refuse"
    """Not the file at all; keep our bytes, and treat it as a failed attempt."""


@attrs.frozen
class Held:
    """What is in the partial file."""

    length: int = 0
    start: int = 0
    """Where the range begins that was asked for; 0 when the whole was."""
    total: int | None = None
    """Bytes of the whole file as an earlier answer gave them."""
    validator: str | None = None
    """What `If-Range` was sent with."""
    expected: int | None = None
    """Bytes of the whole file as the job record has them."""

    @property
    def known_total(self) -> int | None:
        """The length to hold every answer against."""
        return self.total if self.expected is None else self.expected


@attrs.frozen
class Decision:
    """A word, why, and how long the file is."""

    word: Resume
    why: str
    total: int | None = None
    """Bytes of the whole file, or None while unknown."""


def usable_validator(headers: Mapping[str, str]) -> str | None:
    """The validator to send as `If-Range` later, or None when a resume could mix two files.

    A strong ETag, whatever its form. Else `Last-Modified` when the answer's own `Date` is at least a
    second later (RFC 9110, 8.8.2.2: within one second a file may change twice under one stamp).

    Args:
        headers: Of a 200 or 206, names in lower case.
    """
    etag = headers.get("etag", "").strip()
    if _STRONG.fullmatch(etag):
        return etag
    modified, date = _moment(headers.get("last-modified")), _moment(headers.get("date"))
    if modified is None or date is None or (date - modified).total_seconds() < 1:
        return None
    return headers["last-modified"].strip()


def sha256_of(headers: Mapping[str, str], *, from_api: bool) -> str | None:
    """The SHA-256 of the archive when the API sends it as a strong ETag of 64 hex digits, else None.

    Object stores use the same form for other things, so only the API's own word counts
    (https://gitlab.com/gitlab-org/gitlab/-/merge_requests/238127).
    """
    match = _SHA256.fullmatch(headers.get("etag", "").strip()) if from_api else None
    return match[1] if match else None


def _moment(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
    if moment is None:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


@attrs.frozen
class ContentRange:
    """A `Content-Range`: where the body begins and ends (inclusive) and how long the whole is."""

    first: int | None
    last: int | None
    total: int | None


def parse_content_range(text: str | None) -> ContentRange | None:
    """Read a `Content-Range` in bytes, or None when it is absent, malformed or contradicts itself."""
    match = _RANGE.fullmatch(text.strip()) if text else None
    if match is None:
        return None
    first, last = (int(match[1]), int(match[2])) if match[1] is not None else (None, None)
    total = None if match[3] == "*" else int(match[3])
    if first is None and total is None:
        return None
    if first is not None and last is not None and (last < first or (total is not None and last >= total)):
        return None
    return ContentRange(first, last, total)


def decide(held: Held, status: int, headers: Mapping[str, str]) -> Decision:
    """Decide what an answer to a download request is good for.

    Args:
        held: The partial file, and where the range begins that was asked for.
        status: 200, 206 or 416; everything else was an error before it came here.
        headers: Of the answer, names in lower case.
    """
    ranged = held.start > 0
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        # Offsets and lengths then speak of something else than the file (RFC 9110, 8.4).
        if ranged:
            return Decision(Resume.ASK_AGAIN, f"the answer is encoded as {encoding}")
        return Decision(Resume.REFUSE, f"the answer is encoded as {encoding}, which was not asked for")
    if status == 200:
        return _whole(held, headers)
    if status == 206:
        return _part(held, headers) if ranged else _unasked(held)
    if status == 416:
        # It was asked for bytes that we have, so the file is shorter than ours: another one.
        return (
            Decision(Resume.ASK_AGAIN, "416: it does not reach as far as ours") if ranged else _unasked(held)
        )
    return Decision(Resume.REFUSE, f"status {status} carries no file")


def _unasked(held: Held) -> Decision:
    if held.length > 0:
        return Decision(Resume.ASK_AGAIN, "a partial answer to a request for the whole")
    return Decision(Resume.REFUSE, "a partial answer to a request for the whole")


def _whole(held: Held, headers: Mapping[str, str]) -> Decision:
    length = _length(headers)
    if length is not None and held.expected is not None and length != held.expected:
        # An archive of a job id is never replaced by another, so one of the two is wrong.
        return Decision(
            Resume.REFUSE,
            f"{length} bytes announced, the job record says {held.expected}",
            held.expected,
        )
    total = held.expected if length is None else length
    if held.length == 0:
        return Decision(Resume.START, "the whole file", total)
    return Decision(Resume.REWRITE, "the server sent the whole file instead of the rest", total)


def _part(held: Held, headers: Mapping[str, str]) -> Decision:
    again = Resume.ASK_AGAIN
    if "multipart" in headers.get("content-type", "").lower():
        return Decision(again, "several ranges in one answer")
    window = parse_content_range(headers.get("content-range"))
    if window is None or window.first is None or window.last is None:
        return Decision(again, "206 without a usable Content-Range")
    if window.first != held.start:
        return Decision(again, f"206 begins at {window.first}, not at {held.start}")
    if window.total is None:
        return Decision(again, "206 does not tell the length of the whole")
    if window.total < held.length:
        return Decision(again, f"the whole is {window.total} bytes, less than is here")
    if held.known_total not in {None, window.total}:
        return Decision(again, f"the whole is now {window.total} bytes, not {held.known_total}")
    body_bytes = window.last - window.first + 1
    if (length := _length(headers)) is not None and length != body_bytes:
        return Decision(again, "Content-Length contradicts Content-Range")
    if held.validator is None or not _same_object(held.validator, headers):
        return Decision(again, "206 is of another version of the file")
    return Decision(Resume.APPEND, "the rest of the same file", window.total)


def _same_object(validator: str, headers: Mapping[str, str]) -> bool:
    """Whether a 206 names the validator we sent. It must: RFC 9110, 15.3.7 demands it of senders."""
    if validator.startswith('"'):
        return headers.get("etag", "").strip() == validator
    return headers.get("last-modified", "").strip() == validator


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


@attrs.define
class Overlap:
    """The piece of a body that is here already, held against the bytes that are here."""

    _left: bytes

    @property
    def is_met(self) -> bool:
        """Whether all of it came."""
        return not self._left

    def strip(self, chunk: bytes) -> bytes | None:
        """What of the next piece of a body is new, or None when it differs from what is here."""
        count = min(len(chunk), len(self._left))
        if not count:
            return chunk
        if not self._left.startswith(chunk[:count]):
            return None
        self._left = self._left[count:]
        return chunk[count:]
