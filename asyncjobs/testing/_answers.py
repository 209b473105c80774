"""Answers, before any wire: status, headers, body, and the exact error texts GitLab sends.

Also the layers every Rails answer passes: the weak ETag with its exact-match 304
(rack's etag.rb and conditional_get.rb) and nginx' gzip. Error texts: lib/api/helpers.rb,
lib/api/api.rb, lib/api/api_guard.rb in GitLab's source.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from email.utils import formatdate
from typing import Literal

import attrs

from asyncjobs.testing._archives import Archive

JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"
HTML = "text/html; charset=utf-8"

GZIP_MIN_LENGTH = 250
"""nginx leaves smaller bodies alone (omnibus-gitlab: gzip_min_length)."""

EMPTY_JSON_ETAG = 'W/"12ae32cb1ec02d01eda3581b127c1fee"'
"""Rails' ETag of its own two-character body `""`, on every download served by Workhorse (issue 371991)."""

Framing = Literal["length", "chunked", "close"]


@attrs.frozen
class Slice:
    """A part of an archive, read while it is sent."""

    archive: Archive
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at *offset* of the part."""
        return self.archive.read(self.start + offset, min(length, len(self) - offset))


@attrs.define
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes | Slice = b""
    headers: list[tuple[str, str]] = attrs.field(factory=list)
    framing: Framing = "length"
    by_rails: bool = True
    """False when Workhorse sends the body, which Rails then never sees and never hashes."""

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def put(self, name: str, value: str) -> None:
        """Set a header, replacing what was there."""
        self.drop(name)
        self.headers.append((name, value))

    def drop(self, *names: str) -> None:
        """Remove headers."""
        gone = {name.lower() for name in names}
        self.headers[:] = [(key, value) for key, value in self.headers if key.lower() not in gone]


class Refusal(Exception):  # noqa: N818  # not an error of the program: GitLab says no
    """Raised by a route to end with an error answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.status)


def json_answer(status: int, value: object) -> Answer:
    """A JSON body in GitLab's compact form."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Answer(status, body, [("Content-Type", JSON)])


def text_answer(status: int, text: str, content_type: str = TEXT) -> Answer:
    """A body that is not JSON."""
    return Answer(status, text.encode(), [("Content-Type", content_type)])


def message(status: int, text: object) -> Refusal:
    """`{"message": ...}`: what GitLab's own helpers answer."""
    return Refusal(json_answer(status, {"message": text}))


def error(status: int, text: str, **more: str) -> Refusal:
    """`{"error": ...}`: what the API framework and the token guard answer."""
    return Refusal(json_answer(status, {"error": text, **more}))


def not_found(what: str | None = None) -> Refusal:
    """404 with a capital F and, when told, what is missing."""
    return message(404, f"404 {what} Not Found" if what else "404 Not Found")


def record_not_found() -> Refusal:
    """404 with a small f: the record of a path's number does not exist."""
    return message(404, "404 Not found")


def forbidden(reason: str | None = None) -> Refusal:
    """403, with its reason when GitLab gives one."""
    return message(403, f"403 Forbidden - {reason}" if reason else "403 Forbidden")


def unauthorized() -> Refusal:
    """401 for no or an unknown token."""
    return message(401, "401 Unauthorized")


def http_date(moment: float) -> str:
    """Seconds since the epoch as HTTP writes dates."""
    return formatdate(moment, usegmt=True)


def weak_etag(body: bytes) -> str:
    """Rack's ETag of a body."""
    return f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'


def through_rails(answer: Answer, method: str, headers: Mapping[str, str]) -> Answer:
    """Add the ETag and turn a matched conditional GET into 304, as Rack's two layers do."""
    validated = answer.header("ETag") is not None or answer.header("Last-Modified") is not None
    if answer.status in (200, 201) and answer.by_rails and not validated and isinstance(answer.body, bytes):
        if answer.body:
            answer.put("ETag", weak_etag(answer.body))
            answer.put("Cache-Control", "max-age=0, private, must-revalidate")
        else:
            answer.put("Cache-Control", "no-cache")
    if method in ("GET", "HEAD") and answer.status == 200 and _fresh(answer, headers):
        answer.status = 304
        answer.body = b""
        answer.drop("Content-Type", "Content-Length")
    return answer


def _fresh(answer: Answer, headers: Mapping[str, str]) -> bool:
    # Rack compares the whole header with the ETag: no list, no star, no weak comparison.
    wanted = headers.get("if-none-match")
    if wanted is not None:
        return wanted == answer.header("ETag")
    since = headers.get("if-modified-since")
    return since is not None and since == answer.header("Last-Modified")


def through_nginx(answer: Answer, headers: Mapping[str, str]) -> Answer:
    """Gzip what nginx would: text and JSON of 250 bytes on, 200, 403 and 404 only, when asked."""
    kind = (answer.header("Content-Type") or "").partition(";")[0]
    if (
        answer.status in (200, 403, 404)
        and isinstance(answer.body, bytes)
        and len(answer.body) >= GZIP_MIN_LENGTH
        and kind in (JSON, TEXT, "text/html")
        and answer.header("Content-Encoding") is None
        and _accepts_gzip(headers.get("accept-encoding", ""))
    ):
        answer.body = gzip.compress(answer.body, compresslevel=1, mtime=0)
        answer.framing = "chunked"
        answer.put("Content-Encoding", "gzip")
        answer.put("Vary", "Accept-Encoding")
        answer.drop("Content-Length", "Accept-Ranges")
        etag = answer.header("ETag")
        if etag is not None and not etag.startswith("W/"):
            answer.put("ETag", f"W/{etag}")
    return answer


def _accepts_gzip(value: str) -> bool:
    for part in value.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "*") and weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00"):
            return True
    return False
