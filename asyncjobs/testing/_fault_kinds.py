"""What each named fault does: statuses with odd headers, wrong bodies, cut and malformed wires, liars.

The taxonomy is that of real trouble: proxies and maintenance pages, limiters that disagree with their
headers, stores that ignore Range, connections that die at every stage. Nothing here knows routes.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import attrs

from asyncjobs.testing._answers import HTML, JSON, TEXT, Answer, Slice, http_date, json_answer, text_answer
from asyncjobs.testing._archives import Member
from asyncjobs.testing._call import Call
from asyncjobs.testing._faults import Kind, Options, Plan
from asyncjobs.testing._wire import Sending

_PHRASES = {
    400: "400 Bad request",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    404: "404 Not found",
    409: "409 Conflict: Resource lock",
    412: "412 Precondition Failed",
    422: "422 Unprocessable Entity",
    500: "500 Internal Server Error",
}
_PAGE = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body>{0}</body></html>\n"
_MAINTENANCE = _PAGE.format("GitLab is not responding ({0})")
_LOGIN = _PAGE.format("Sign in with SSO")
_HUGE = 10_000_000


def _retry_after(call: Call, value: str) -> str:
    words = {
        "date": http_date(call.now + 30),
        "past": http_date(call.now - 3600),
        "garbage": "in a while",
        "huge": str(_HUGE),
        "negative": "-5",
    }
    return words.get(value, value)


def _status(call: Call, options: Options) -> Plan:
    status = options.whole("status", 500)
    if options.has("body"):
        answer = text_answer(status, options.text("body", ""), options.text("content_type", TEXT))
    elif status in _PHRASES:
        answer = json_answer(status, {"message": _PHRASES[status]})
    elif status == 429:
        answer = text_answer(429, "Retry later")
    elif status in (204, 304) or status < 200:
        answer = Answer(status)
    else:
        answer = text_answer(status, _MAINTENANCE.format(status), HTML)
    if options.has("retry_after"):
        answer.put("Retry-After", _retry_after(call, options.text("retry_after", "")))
    if options.has("location"):
        answer.put("Location", options.text("location", ""))
    return Plan(instead=answer)


def _limited(
    *, retry_after: str | None = None, reset: float | None = None
) -> Callable[[Call, Options], Plan]:
    def build(call: Call, options: Options) -> Plan:
        answer = text_answer(429, "Retry later")
        if retry_after is not None:
            answer.put("Retry-After", _retry_after(call, options.text("retry_after", retry_after)))
        if reset is not None:
            moment = call.now + options.number("reset", reset)
            answer.put("RateLimit-Name", "throttle_authenticated_api")
            answer.put("RateLimit-Limit", "2000")
            answer.put("RateLimit-Observed", "2001")
            answer.put("RateLimit-Remaining", "0")
            answer.put("RateLimit-Reset", str(int(moment)))
            answer.put("RateLimit-ResetTime", http_date(moment))
        return Plan(instead=answer)

    return build


def _endpoint_limit(_: Call, options: Options) -> Plan:
    text = "This endpoint has been requested too many times. Try again later."
    answer = json_answer(429, {"message": {"error": text}})
    answer.put("Retry-After", options.text("retry_after", "60"))
    return Plan(instead=answer)


def _exhausted(call: Call, options: Options) -> Plan:
    def change(answer: Answer, _: Sending) -> None:
        answer.put("RateLimit-Limit", "2000")
        answer.put("RateLimit-Observed", "2000")
        answer.put("RateLimit-Remaining", options.text("remaining", "0"))
        reset = options.text("reset_text", str(int(call.now + options.number("reset", 30))))
        answer.put("RateLimit-Reset", reset)

    return Plan(wire=change)


# -- bodies ------------------------------------------------------------------


def _body(body: bytes, kind: str = JSON) -> Callable[[Call, Options], Plan]:
    return lambda _call, _options: Plan(instead=Answer(200, body, [("Content-Type", kind)]))


def _wrong_json(_: Call, __: Options) -> Plan:
    def change(answer: Answer) -> None:
        if isinstance(answer.body, bytes) and answer.status < 300 and answer.header("Content-Type") == JSON:
            value: object = json.loads(answer.body or b"null")
            answer.body = json.dumps({"items": value} if isinstance(value, list) else [value]).encode()
            answer.put("Content-Type", JSON)

    return Plan(app=change)


def _cut_json(_: Call, __: Options) -> Plan:
    def change(answer: Answer) -> None:
        if isinstance(answer.body, bytes):
            answer.body = answer.body[: len(answer.body) // 2]

    return Plan(app=change)


@attrs.frozen
class _Padding:
    """A JSON list with nothing but white space in it, of any size, without memory."""

    size: int
    sha256: str = ""
    md5: str = ""

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(b" ") * max(0, min(length, self.size - offset))
        if offset == 0 and data:
            data[:1] = b"["
        if data and offset + len(data) == self.size:
            data[-1:] = b"]"
        return bytes(data)

    def members(self) -> list[Member]:
        return []

    def member(self, path: str) -> bytes | None:  # noqa: ARG002  # the protocol's signature
        return None


def _huge_json(_: Call, options: Options) -> Plan:
    size = options.whole("size", 64 * 1024 * 1024)
    return Plan(instead=Answer(200, Slice(_Padding(size), 0, size), [("Content-Type", JSON)]))


def _empty(_: Call, __: Options) -> Plan:
    def change(answer: Answer) -> None:
        answer.body = b""

    return Plan(app=change)


def _short(_: Call, options: Options) -> Plan:
    def change(answer: Answer) -> None:
        if isinstance(answer.body, bytes):
            keep = max(0, len(answer.body) - options.whole("by", max(1, len(answer.body) // 2)))
            answer.body = answer.body[:keep]

    return Plan(app=change)


def _gzipped(damage: Callable[[bytes], bytes]) -> Callable[[Call, Options], Plan]:
    def build(_: Call, options: Options) -> Plan:
        def change(answer: Answer, __: Sending) -> None:
            body = answer.body if isinstance(answer.body, bytes) else answer.body.read(0, len(answer.body))
            if answer.header("Content-Encoding") != "gzip":
                body = gzip.compress(body, compresslevel=1, mtime=0)
            answer.body = damage(body)
            answer.framing = "chunked" if options.text("framing", "length") == "chunked" else "length"
            answer.put("Content-Encoding", "gzip")

        return Plan(wire=change)

    return build


def _bomb(_: Call, options: Options) -> Plan:
    def change(answer: Answer, __: Sending) -> None:
        answer.body = gzip.compress(
            b"[" + bytes(options.whole("size", 64 * 1024 * 1024)).replace(b"\0", b" "), 9
        )
        answer.framing = "length"
        answer.put("Content-Encoding", "gzip")

    return Plan(wire=change)


def _encoding(_: Call, options: Options) -> Plan:
    name = options.text("encoding", "br")
    return Plan(wire=lambda answer, _sending: answer.put("Content-Encoding", name))


# -- the wire ----------------------------------------------------------------


def _silent(ending: str) -> Callable[[Call, Options], Plan]:
    return lambda _call, _options: Plan(raw=b"", ending=ending)


def _midbody(ending: str) -> Callable[[Call, Options], Plan]:
    def build(_: Call, options: Options) -> Plan:
        def change(answer: Answer, sending: Sending) -> None:
            sending.stop_after = options.whole("after", len(answer.body) // 2)
            sending.stop_with = ending
            framing = options.text("framing", answer.framing)
            answer.framing = (
                "close" if framing == "close" else "chunked" if framing == "chunked" else "length"
            )

        return Plan(wire=change)

    return build


def _drip(_: Call, options: Options) -> Plan:
    def change(_answer: Answer, sending: Sending) -> None:
        sending.piece = options.whole("piece", 1)
        sending.pause = options.number("pause", 1.0)

    return Plan(wire=change)


def _slices(_: Call, options: Options) -> Plan:
    def change(answer: Answer, sending: Sending) -> None:
        answer.framing = "chunked"
        sending.piece = options.whole("piece", 1)

    return Plan(wire=change)


def _delay(_: Call, options: Options) -> Plan:
    def change(_answer: Answer, sending: Sending) -> None:
        sending.stall_first = options.number("seconds", 30.0)

    return Plan(wire=change)


def _close_after(_: Call, __: Options) -> Plan:
    def change(_answer: Answer, sending: Sending) -> None:
        sending.close_after = True

    return Plan(wire=change)


def _framing(_: Call, options: Options) -> Plan:
    def change(answer: Answer, _sending: Sending) -> None:
        kind = options.text("framing", "close")
        answer.framing = "chunked" if kind == "chunked" else "length" if kind == "length" else "close"

    return Plan(wire=change)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_RAW: dict[str, tuple[str, bytes]] = {
    "bad_status_line": ("status line without a number", b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n[]"),
    "not_http": ("bytes of another protocol", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "garbage": ("random bytes", bytes(range(128, 256)) * 4),
    "duplicate_length": (
        "two Content-Length headers that differ",
        _HEAD + b"Content-Length: 2\r\nContent-Length: 200\r\n\r\n[]",
    ),
    "negative_length": ("Content-Length: -1", _HEAD + b"Content-Length: -1\r\n\r\n[]"),
    "length_and_chunked": (
        "Content-Length and Transfer-Encoding together",
        _HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
    ),
    "bad_chunk_size": (
        "a chunk size that is no number",
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n[]\r\n0\r\n\r\n",
    ),
    "long_header": (
        "a header of 9 KB",
        _HEAD + b"X-Long: " + b"a" * 9216 + b"\r\nContent-Length: 2\r\n\r\n[]",
    ),
    "many_headers": (
        "2,000 headers",
        _HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(2000)) + b"Content-Length: 2\r\n\r\n[]",
    ),
    "surplus_bytes": ("bytes after the body's end", _HEAD + b"Content-Length: 2\r\n\r\n[][][][]"),
    "bare_lf_header": ("a header that breaks off", _HEAD + b"Broken\r\nContent-Length: 2\r\n\r\n[]"),
    "cut_head": ("the head breaks off", b"HTTP/1.1 200 OK\r\nContent-Ty"),
}


def _raw(data: bytes) -> Callable[[Call, Options], Plan]:
    return lambda _call, options: Plan(raw=data, ending=options.text("ending", "fin"))


# -- redirects ---------------------------------------------------------------


def _redirect(where: Callable[[Call, Options], str | None]) -> Callable[[Call, Options], Plan]:
    def build(call: Call, options: Options) -> Plan:
        answer = text_answer(options.whole("status", 302), "This resource has been moved temporarily.")
        location = where(call, options)
        if location is not None:
            answer.put("Location", location)
        return Plan(instead=answer)

    return build


def _own(call: Call) -> str:
    return f"{call.settings.scheme}://{call.request.headers.get('Host', '')}{call.request.raw_path}"


def _foreign(call: Call, options: Options) -> str:
    return options.text("location", f"{call.settings.storage_url}/elsewhere{call.request.raw_path}")


def _userinfo(call: Call, _: Options) -> str:
    parts = urlsplit(call.settings.storage_url)
    return f"{parts.scheme}://somebody:secret@{parts.netloc}{call.request.raw_path}"


def _foreign_next(_: Call, options: Options) -> Plan:
    def change(answer: Answer, __: Sending) -> None:
        link = answer.header("Link") or ""
        host = options.text("location", "https://elsewhere.invalid")
        answer.put("Link", re.sub(r"<https?://[^/>]+", f"<{host}", link))

    return Plan(wire=change)


def _same_next(call: Call, _: Options) -> Plan:
    return Plan(wire=lambda answer, _sending: answer.put("Link", f'<{_own(call)}>; rel="next"'))


# -- ranges ------------------------------------------------------------------


def _partial(change: Callable[[Answer, Options], None]) -> Callable[[Call, Options], Plan]:
    def build(_: Call, options: Options) -> Plan:
        def apply(answer: Answer, __: Sending) -> None:
            if answer.status == 206:
                change(answer, options)

        return Plan(wire=apply)

    return build


def _content_range(answer: Answer, *, start: int = 0, total: int = 0) -> None:
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.header("Content-Range") or "")
    if match is not None:
        first, last, size = (int(part) for part in match.groups())
        answer.put("Content-Range", f"bytes {first + start}-{last + start}/{size + total}")


def _unsatisfiable(_: Call, options: Options) -> Plan:
    answer = text_answer(416, "invalid range: failed to overlap\n")
    if options.text("total", "") != "none":
        answer.put("Content-Range", f"bytes */{options.text('total', '1')}")
    return Plan(instead=answer)


def _expired(_: Call, __: Options) -> Plan:
    body = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
    body += "<Message>Request has expired</Message></Error>"
    return Plan(instead=text_answer(403, body, "application/xml"))


KINDS: dict[str, Kind] = {
    "status": Kind(
        "status=500, retry_after=, body=, content_type=, location=: that status; also as '503'", _status
    ),
    "429_none": Kind("429 without any header", _limited()),
    "429_seconds": Kind("429 with Retry-After in seconds (retry_after=7)", _limited(retry_after="7")),
    "429_date": Kind("429 with Retry-After as a date 30 s ahead", _limited(retry_after="date")),
    "429_past": Kind("429 with a Retry-After date that is past", _limited(retry_after="past")),
    "429_negative": Kind("429 with a negative Retry-After", _limited(retry_after="negative")),
    "429_garbage": Kind("429 with a Retry-After that is no number", _limited(retry_after="garbage")),
    "429_huge": Kind("429 with a Retry-After of months", _limited(retry_after="huge")),
    "429_reset_only": Kind("429 with RateLimit headers only (reset=30 s ahead)", _limited(reset=30.0)),
    "429_contradictory": Kind(
        "429 with Retry-After 5 and a reset 60 s ahead", _limited(retry_after="5", reset=60.0)
    ),
    "429_endpoint": Kind("429 of an endpoint limit: JSON, Retry-After 60", _endpoint_limit),
    "ratelimit_exhausted": Kind(
        "the right answer with RateLimit-Remaining 0 (remaining=, reset=30, reset_text=)", _exhausted
    ),
    "html_200": Kind("a sign-in page with status 200", _body(_LOGIN.encode(), HTML)),
    "html_as_json": Kind("a sign-in page that claims to be JSON", _body(_LOGIN.encode())),
    "wrong_json": Kind("an object where a list belongs, a list where an object belongs", _wrong_json),
    "wrong_types": Kind("a job whose id is a list", _body(b'{"id":[1],"status":{},"name":7}')),
    "not_json": Kind("text that claims to be JSON", _body(b"[{]}")),
    "cut_json": Kind("half of the JSON, well framed", _cut_json),
    "deep_json": Kind("100,000 nested lists", _body(b"[" * 100_000 + b"]" * 100_000)),
    "long_number": Kind("a number of 5,000 digits", _body(b'{"id":' + b"9" * 5000 + b"}")),
    "empty_200": Kind("200 with no body", _empty),
    "huge_json": Kind("a list of size=64 MiB of white space", _huge_json),
    "short_trace": Kind("the end of the body is missing (by=, half of it)", _short),
    "empty_trace": Kind("200 with no body", _empty),
    "cut_gzip": Kind(
        "gzip cut in half, well framed (framing=)", _gzipped(lambda body: body[: len(body) // 2])
    ),
    "gzip_crc": Kind("gzip with a wrong checksum", _gzipped(lambda body: body[:-8] + bytes(4) + body[-4:])),
    "gzip_trailing": Kind("junk after the gzip stream", _gzipped(lambda body: body + b"junk")),
    "gzip_bomb": Kind("gzip that grows to size=64 MiB", _bomb),
    "other_encoding": Kind("plain bytes that claim encoding=br", _encoding),
    "reset_before": Kind("connection reset without an answer", _silent("reset")),
    "fin_before": Kind("connection closed without an answer", _silent("fin")),
    "stall_headers": Kind("silence for ever instead of an answer", _silent("stall")),
    "reset_midbody": Kind(
        "reset inside the body (after=bytes, framing=length, chunked or close)", _midbody("reset")
    ),
    "fin_midbody": Kind(
        "closed inside the body (after=bytes, framing=length, chunked or close)", _midbody("fin")
    ),
    "stall_midbody": Kind("silence for ever inside the body (after=bytes, framing=)", _midbody("stall")),
    "drip": Kind("piece=1 byte, then pause=1.0 seconds, and so on", _drip),
    "slices": Kind("chunks of piece=1 byte at full speed", _slices),
    "delay": Kind("seconds=30 of silence before the answer", _delay),
    "close_after": Kind("the right answer, then the connection closes unannounced", _close_after),
    "framing": Kind("the right answer in framing=close, chunked or length", _framing),
    **{name: Kind(f"{text} (ending=fin, reset or stall)", _raw(data)) for name, (text, data) in _RAW.items()},
    "redirect_foreign": Kind("redirect to another origin (location=, status=302)", _redirect(_foreign)),
    "redirect_downgrade": Kind(
        "redirect to http on the same host (status=302)",
        _redirect(lambda call, _: re.sub("^https", "http", _own(call))),
    ),
    "redirect_loop": Kind("redirect to itself (status=302)", _redirect(lambda call, _: _own(call))),
    "redirect_userinfo": Kind("redirect with a user and password in it", _redirect(_userinfo)),
    "redirect_file": Kind("redirect to file:///etc/passwd", _redirect(lambda *_: "file:///etc/passwd")),
    "redirect_metadata": Kind(
        "redirect to a cloud's metadata address",
        _redirect(lambda *_: "http://169.254.169.254/latest/meta-data/"),
    ),
    "redirect_empty": Kind("redirect without a Location", _redirect(lambda *_: None)),
    "redirect_relative": Kind(
        "redirect to the same path, given as a path", _redirect(lambda call, _: call.request.raw_path)
    ),
    "foreign_next": Kind("the right page whose next link names another host (location=)", _foreign_next),
    "same_next": Kind("the right page whose next link is itself", _same_next),
    "range_ignored": Kind(
        "200 and everything for a Range", lambda *_: Plan(forget=("range", "if-range")), needs_range=True
    ),
    "range_wrong_start": Kind(
        "206 that claims another start (by=1)",
        _partial(lambda answer, options: _content_range(answer, start=options.whole("by", 1))),
        needs_range=True,
    ),
    "range_wrong_total": Kind(
        "206 that claims another total (by=1)",
        _partial(lambda answer, options: _content_range(answer, total=options.whole("by", 1))),
        needs_range=True,
    ),
    "range_no_content_range": Kind(
        "206 without Content-Range",
        _partial(lambda answer, _: answer.drop("Content-Range")),
        needs_range=True,
    ),
    "range_other_etag": Kind(
        "206 with another ETag",
        _partial(lambda answer, _: answer.put("ETag", f'"{"0" * 64}"')),
        needs_range=True,
    ),
    "range_weak_etag": Kind(
        "206 with the ETag weakened",
        _partial(lambda answer, _: answer.put("ETag", f"W/{answer.header('ETag') or ''}")),
        needs_range=True,
    ),
    "range_encoded": Kind(
        "206 that claims to be gzip",
        _partial(lambda answer, _: answer.put("Content-Encoding", "gzip")),
        needs_range=True,
    ),
    "range_416": Kind(
        "416 (total=1, or total='none' for no Content-Range)", _unsatisfiable, needs_range=True
    ),
    "link_expired": Kind(
        "the store's 403 for a signed link that is too old; use with origin='storage'", _expired
    ),
}
"""Every fault by name."""
