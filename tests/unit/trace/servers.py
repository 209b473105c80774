"""Servers as a reader of traces sees them: a log, and a way of giving it."""

from __future__ import annotations

import hashlib

import attrs

from asyncjobs._models import JobRef
from asyncjobs._trace.asking import Ask, Reset, Result
from asyncjobs._trace.reading import TraceReader

REF = JobRef(1, 2)
KINDS = ["window", "whole", "range"]


@attrs.define
class Server:
    """A log and a way of giving it."""

    kind: str
    log: bytes = b""
    etags: bool = True
    body_bytes: int = 0
    asks: list[Ask] = attrs.field(factory=list)

    def get(self, ask: Ask) -> tuple[int, dict[str, str], bytes]:
        """Answer one request."""
        self.asks.append(ask)
        body, status, headers = self.log, 200, {}
        if self.kind == "window" and ask.offset is not None:
            assert ask.limit is not None
            body = self.log[ask.offset : ask.offset + ask.limit]
        elif self.kind == "range" and ask.range_start is not None:
            if ask.range_start >= len(self.log):
                return 416, {"content-range": f"bytes */{len(self.log)}"}, b""
            body, status = self.log[ask.range_start :], 206
            headers["content-range"] = f"bytes {ask.range_start}-{len(self.log) - 1}/{len(self.log)}"
        if body and status == 200 and self.etags:
            headers["etag"] = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
            if ask.if_none_match == headers["etag"]:
                return 304, headers, b""
        self.body_bytes += len(body)
        return status, headers, body


def read(
    reader: TraceReader,
    server: Server,
    *,
    final: bool = False,
    chunk: int = 1000,
    now: float = 0.0,
    proven: bool = True,
    break_after: int | None = None,
) -> tuple[bytes, Result | None, Reset | None]:
    """One exchange: what it gave, what it meant, and the reset that followed."""
    ask = reader.ask(final=final, archived=final)
    status, headers, body = server.get(ask)
    answer = reader.answer(ask, status, headers, final=final)
    out = b""
    if break_after is not None:
        body = body[:break_after]
    for at in range(0, len(body), chunk):
        out += answer.feed(body[at : at + chunk])
    if break_after is not None:
        answer.broken()
        return out, None, None
    result = answer.end(proven=proven)
    out += b"".join(answer.rest())
    reset = reader.conclude(result, now)
    return out, result, reset


def drain(reader: TraceReader, server: Server, *, final: bool = False) -> bytes:
    """Read until nothing new comes."""
    out = b""
    for _ in range(50):
        new, result, _ = read(reader, server, final=final)
        out += new
        if result is Result.SAME:
            return out
    raise AssertionError("never stable")


def lines(count: int, seed: int = 0) -> bytes:
    """Some log, every line different."""
    return b"".join(b"%d line %d of the log\n" % (seed, n) for n in range(count))
