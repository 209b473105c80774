"""Bytes of an archive over HTTP: conditions, Range, If-Range, 206 and 416, as Go's file serving does it.

Used for downloads by the API itself and by the second origin. net/http's ServeContent is the model
(workhorse/internal/sendfile in GitLab's source); RFC 9110 sections 13 and 14.
"""

from __future__ import annotations

import re

from asyncjobs.testing._answers import BINARY, EMPTY_JSON_ETAG, TEXT, Answer, Slice, http_date
from asyncjobs.testing._archives import Archive
from asyncjobs.testing._call import Call

_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*")


def etag_of(call: Call, archive: Archive) -> str | None:
    """The ETag of a download by the API, in the mode that is set."""
    mode = call.settings.etag_mode(call.rules)
    return {
        "constant": EMPTY_JSON_ETAG,
        "strong": f'"{archive.sha256}"' if mode == "strong" else None,
        "weak": f'W/"{archive.md5}"' if mode == "weak" else None,
    }.get(mode)


def serve_archive(call: Call, archive: Archive, modified_at: float, *, filename: str) -> Answer:
    """The API's own delivery: 200, 206, 304 or 416."""
    etag = etag_of(call, archive)
    head = [
        ("Content-Type", BINARY),
        ("Content-Disposition", f"attachment; filename=\"{filename}\"; filename*=UTF-8''{filename}"),
        ("Content-Transfer-Encoding", "binary"),
        ("Cache-Control", "max-age=0, private, must-revalidate"),
    ]
    return ranged(call, archive, modified_at, etag, head)


def ranged(
    call: Call, archive: Archive, modified_at: float, etag: str | None, head: list[tuple[str, str]]
) -> Answer:
    """A conditional, partial or whole answer from *archive*."""
    modified = http_date(modified_at)
    headers = [*head, ("Accept-Ranges", "bytes"), ("Last-Modified", modified)]
    if etag is not None:
        headers.append(("ETag", etag))
    sent = call.request.headers
    if _differs(sent.get("If-Match"), etag) or sent.get("If-Unmodified-Since", modified) != modified:
        return Answer(412, b"", headers)
    if not_modified(sent.get("If-None-Match"), sent.get("If-Modified-Since"), etag, modified):
        gone = {"content-type", "content-disposition", "content-transfer-encoding", "accept-ranges"}
        return Answer(304, b"", [(name, value) for name, value in headers if name.lower() not in gone])
    wanted = sent.get("Range")
    if wanted is not None and _if_range(sent.get("If-Range"), etag, modified):
        span = _span(wanted, archive.size)
        if span == "unsatisfiable":
            headers = [("Content-Type", TEXT), ("Content-Range", f"bytes */{archive.size}")]
            return Answer(416, b"invalid range: failed to overlap\n", headers)
        if isinstance(span, tuple):
            start, stop = span
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{archive.size}"))
            return Answer(206, Slice(archive, start, stop), headers)
    answer = Answer(200, Slice(archive, 0, archive.size), headers)
    answer.framing = "length" if call.settings.content_length else "chunked"
    return answer


def _differs(wanted: str | None, etag: str | None) -> bool:
    return wanted is not None and wanted != "*" and etag not in [one.strip() for one in wanted.split(",")]


def not_modified(wanted: str | None, since: str | None, etag: str | None, modified: str) -> bool:
    """Whether If-None-Match (weakly compared) or else If-Modified-Since says: you have it."""
    if wanted is not None:
        known = [one.strip().removeprefix("W/") for one in wanted.split(",")]
        return "*" in known or (etag is not None and etag.removeprefix("W/") in known)
    return since is not None and since == modified


def _if_range(value: str | None, etag: str | None, modified: str) -> bool:
    # A weak tag never matches: If-Range compares strongly (RFC 9110 section 13.1.5).
    if value is None:
        return True
    if value.startswith(('"', "W/")):
        return value == etag and not value.startswith("W/")
    return value == modified


def _span(value: str, size: int) -> tuple[int, int] | str | None:
    match = _RANGE.fullmatch(value)
    if match is None or match[1] == match[2] == "":
        # Several ranges at once would be a multipart answer; nobody here sends them.
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        stop = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    return (start, stop) if start < stop else "unsatisfiable"
