"""Single reads of a trace for whoever asks: the whole log, or a part from an offset.

A body may be cut where the connection ends, and a window may be smaller than the one asked for: what is
given is proven to be all there is, or the read fails. Tails read in another way, see `asyncjobs._tail.reads`.
GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
"""

from __future__ import annotations

import io
import zlib
from typing import Final

import attrs

from asyncjobs._api import Api, Body
from asyncjobs._errors import (
    BadResponseError,
    RequestError,
    ResponseError,
    TraceTooLargeError,
    TruncatedBodyError,
)
from asyncjobs._models import JobRef, TraceChunk
from asyncjobs._trace.asking import WINDOW_BYTES

MAX_WHOLE_BYTES: Final = 128 << 20
"""Most bytes a read into memory gives: GitLab's own limit for a log is 100 MB."""

_BEYOND: Final = 1 << 40
"""An offset after the end of every log: a server that knows windows answers with nothing."""


async def get_trace(api: Api, project: int | str, job_id: int, *, max_bytes: int = MAX_WHOLE_BYTES) -> bytes:
    """Read a whole trace into memory; empty when the job has none (yet, or any more).

    A body whose end HTTP does not prove is read until two reads agree.

    Args:
        api: The client's endpoints.
        project: Id or full path.
        job_id: The job.
        max_bytes: Ceiling of what is held.

    Raises:
        TraceTooLargeError: Longer than *max_bytes*; read it in parts or follow it.
        RequestError, ResponseError: No usable answer within the retry policy.

    Cancellation: nothing is kept.
    """
    ref = JobRef(project, job_id)
    attempts = api.attempts("trace", call="get_trace")
    seen: _Seen = {}
    while True:
        try:
            taken = await _sure(api, ref, _Ask(most=max_bytes + 1), seen)
        except (RequestError, ResponseError) as error:
            failure = error
        else:
            if taken.size > max_bytes:
                raise TraceTooLargeError(f"the trace of {ref} is longer than {max_bytes} bytes")
            return taken.kept
        await attempts.failed(failure)


async def read_trace(
    api: Api, project: int | str, job_id: int, *, offset: int = 0, limit: int | None = None
) -> TraceChunk:
    """Read the part of a trace that begins at *offset*, whatever the server supports.

    A server with byte windows sends just that part; from another the whole log streams past and only
    the part is kept. Which of the two it was is proved for every part, never guessed.

    Args:
        api: The client's endpoints.
        project: Id or full path.
        job_id: The job.
        offset: Position of the first byte wanted; at or after the end the chunk is empty.
        limit: Most bytes wanted; None for all there are.

    Raises:
        ValueError: A negative offset or limit.
        TraceTooLargeError: More than 128 MiB would have to be held.
        RequestError, ResponseError: No usable answer within the retry policy.

    Cancellation: nothing is kept; the same call may simply be made again.
    """
    if offset < 0 or (limit is not None and limit < 0):
        raise ValueError("offset and limit are not negative")
    ref = JobRef(project, job_id)
    most = MAX_WHOLE_BYTES + 1 if limit is None else min(limit, MAX_WHOLE_BYTES + 1)
    pieces: list[bytes] = []
    size = 0
    while size < most:
        data, ended = await _read_part(api, ref, offset + size, min(WINDOW_BYTES, most - size), most - size)
        pieces.append(data)
        size += len(data)
        if ended:
            break
    if size > MAX_WHOLE_BYTES:
        raise TraceTooLargeError(f"more than {MAX_WHOLE_BYTES} bytes of the trace of {ref}")
    return TraceChunk(offset, b"".join(pieces))


async def _read_part(api: Api, ref: JobRef, offset: int, window: int, most: int) -> tuple[bytes, bool]:
    """Read bytes from *offset* on, retrying; gives them and whether nothing more is there now.

    A window gives at most *window* bytes, a whole log up to *most* of its bytes after the offset.
    """
    attempts = api.attempts("trace", call="read_trace")
    seen: _Seen = {}
    while True:
        try:
            return await _part(api, ref, offset, window, most, seen)
        except (RequestError, ResponseError) as error:
            failure = error
        await attempts.failed(failure)


async def _part(
    api: Api, ref: JobRef, offset: int, window: int, most: int, seen: _Seen
) -> tuple[bytes, bool]:
    first = await _sure(api, ref, _Ask(offset, window, most), seen)
    if not first.size:
        return b"", True
    whole = first.kept, len(first.kept) < most
    if first.size > window:
        # Longer than asked for: the server ignored the parameters and this is the whole log.
        return whole
    if not offset and first.size == window:
        return first.head, False
    # A window or a short whole log, and a window may be smaller than asked for. One byte from where it ended
    # tells: the whole log is longer than that, and a window after the end is empty.
    after = await _sure(api, ref, _Ask(offset + first.size, 1), seen)
    if after.size > 1:
        return whole
    told = after.size == 1 and first.size > 1
    if offset and not told and not await _gives_windows(api, ref, first.size, seen):
        return whole
    return first.head, not after.size


async def _gives_windows(api: Api, ref: JobRef, size: int, seen: _Seen) -> bool:
    """Whether an answer of *size* bytes was a window: such a server sends as little as it is asked for.

    An empty answer would not tell, because a node that lags or lost the log sends one too.
    """
    limit = 1 if size > 1 else 2
    beginning = await _sure(api, ref, _Ask(0, limit), seen)
    if beginning.size < min(limit, size):
        raise TruncatedBodyError(
            f"a log of {size} bytes and more was answered with {beginning.size}",
            method="GET",
            url=beginning.url,
        )
    return beginning.size == limit


async def knows_windows(api: Api, ref: JobRef) -> bool:
    """Whether the server reads this (not empty) log in windows: beyond its end there is nothing then.

    Raises:
        RequestError, ResponseError: No usable answer.
    """
    return not (await _sure(api, ref, _Ask(_BEYOND, 1), {})).size


async def read_window(api: Api, ref: JobRef, offset: int, limit: int) -> bytes | None:
    """Read one window, whole; None when more than *limit* bytes came, so that it is something else.

    Raises:
        RequestError, ResponseError: No usable answer, or none that is proven to be whole.
    """
    taken = await _sure(api, ref, _Ask(offset, limit), {})
    return taken.head if taken.size <= limit else None


@attrs.frozen
class _Taken:
    """One answer, as far as it mattered."""

    head: bytes
    """How the body begins: all of it when it is a window."""
    kept: bytes
    """What was wanted of the body, when it is the whole log."""
    size: int
    """Bytes that arrived."""
    crc: int
    proven: bool
    """HTTP says that the body is whole, or what is missing does not matter."""
    url: str

    @property
    def length(self) -> tuple[int, int]:
        """What two answers have to have in common."""
        return self.size, self.crc


@attrs.frozen
class _Ask:
    """What is wanted: the window from an offset, or else *most* bytes of the whole log from there on."""

    offset: int | None = None
    window: int | None = None
    most: int = 0


_Seen = dict[_Ask, tuple[int, int]]
"""The longest answer to each question whose end nothing proved."""


async def _take(api: Api, ref: JobRef, ask: _Ask) -> _Taken:
    """Read one answer until nothing more of it can matter."""
    # Unlike a bytearray it gives its bytes away without a copy: a whole log is held once.
    head, kept = bytearray(), io.BytesIO()
    start, longest, most = ask.offset or 0, ask.window or 0, ask.most
    size, crc, enough = 0, 0, False
    async with api.open_trace(ref, offset=ask.offset, limit=ask.window) as body:
        require_log(body)
        async for piece in body:
            if size <= longest:
                head += piece
            if size + len(piece) > start and size < start + most:
                kept.write(piece[max(0, start - size) : start + most - size])
            size += len(piece)
            crc = zlib.crc32(piece, crc)
            enough = size > longest and (not most or size >= start + most)
            if enough:
                break
    proven = enough or body.framing != "close"
    return _Taken(bytes(head), kept.getvalue(), size, crc, proven, body.url)


def require_log(body: Body) -> None:
    """Refuse an answer that only a conditional read, or one with a range, could have.

    Raises:
        BadResponseError: It is such an answer.
    """
    if body.status not in {200, 204}:
        reason = f"answered {body.status} to a plain read of a log"
        raise BadResponseError(reason, status=body.status, method="GET", url=body.url)


async def _sure(api: Api, ref: JobRef, ask: _Ask, seen: _Seen) -> _Taken:
    """Give an answer that is whole.

    A body that ended with its connection may have been cut; one that comes again counts, if none was longer.
    The first is asked for again at once, later ones by whoever calls, after a pause.

    Raises:
        TruncatedBodyError: It was not the same as the longest before.
        RequestError, ResponseError: No usable answer.
    """
    while True:
        taken = await _take(api, ref, ask)
        before = seen.get(ask)
        if taken.proven or taken.length == before:
            return taken
        if before is None or taken.size >= before[0]:
            seen[ask] = taken.length
        if before is not None:
            raise TruncatedBodyError(
                "two reads of the log differ, and neither is proven to be whole", method="GET", url=taken.url
            )
