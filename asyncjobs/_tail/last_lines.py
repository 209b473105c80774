"""Where the last N lines of a log begin, found without reading the log from its start where that is possible.

A server with byte windows is asked for single bytes until the end is known, then for windows before it.
Another one sends everything, and the line starts are counted as it streams past. So does whoever gives
something else than the window asked for: behind one address may stand nodes of two minds.
"""

from __future__ import annotations

import zlib

from asyncjobs._api import Api
from asyncjobs._errors import RequestError, ResponseError
from asyncjobs._models import CURSOR_TAIL_BYTES, JobRef
from asyncjobs._tail.parts import knows_windows, read_window, require_log
from asyncjobs._trace.asking import DOUBTS, WINDOW_BYTES
from asyncjobs._trace.place import Place
from asyncjobs._trace.starts import LineStarts

PRECISION_BYTES = 32 << 10
"""How exactly the end of a growing log is looked for."""

LINE_BYTES = 200
"""What a line is assumed to take when the first window is chosen."""

LONGEST_LOG_BYTES = 1 << 40
"""No log has so many: what has a byte there is not telling of windows."""


class _NoWindowError(Exception):
    """The answer is not the window that was asked for."""


async def place_of_last_lines(api: Api, ref: JobRef, lines: int, *, size: int | None) -> Place:
    """Find the place after which the log has its last *lines* lines.

    A server that sends the whole log makes this hold about 250 bytes for each line.

    Args:
        api: The client's endpoints.
        ref: The job.
        lines: How many; 0 gives the end.
        size: Length of the log when its record says it, else None.

    Raises:
        RequestError, ResponseError: The log cannot be read.
    """
    attempts = api.attempts("trace", call="tail_lines")
    while True:
        try:
            return await _find(api, ref, lines, size)
        except (RequestError, ResponseError) as error:
            failure = error
        await attempts.failed(failure)


async def _find(api: Api, ref: JobRef, lines: int, size: int | None) -> Place:
    if await knows_windows(api, ref):
        try:
            return await _by_windows(api, ref, lines, size or await _end_of(api, ref))
        except _NoWindowError:
            pass
    return await _by_counting(api, ref, lines)


async def _by_counting(api: Api, ref: JobRef, lines: int) -> Place:
    """Stream the whole log and remember where the last lines began; again while it may have been cut."""
    longest, place = -1, Place()
    for _ in range(DOUBTS):
        starts, size = LineStarts(lines), 0
        async with api.open_trace(ref) as body:
            require_log(body)
            async for piece in body:
                starts.feed(piece)
                size += len(piece)
        if body.framing != "close" or size == longest:
            return starts.place()
        # It may have been cut, and a cut log begins too early. One that grows is never as long as before.
        if size > longest:
            longest, place = size, starts.place()
    return place


async def _window(api: Api, ref: JobRef, offset: int, limit: int) -> bytes:
    """Read one window, at most *limit* bytes.

    Raises:
        _NoWindowError: There is more, so it is something else.
    """
    data = await read_window(api, ref, offset, limit)
    if data is None:
        raise _NoWindowError
    return data


async def _end_of(api: Api, ref: JobRef) -> int:
    """The length of a log, to within `PRECISION_BYTES` below."""
    low, high = 0, WINDOW_BYTES
    while await _window(api, ref, high, 1):
        low, high = high, high * 4
        if high > LONGEST_LOG_BYTES:
            raise _NoWindowError
    while high - low > PRECISION_BYTES:
        middle = (low + high) // 2
        if await _window(api, ref, middle, 1):
            low = middle
        else:
            high = middle
    return high


async def _by_windows(api: Api, ref: JobRef, lines: int, end: int) -> Place:
    """Read backwards from *end*, window by window, until enough line starts are seen."""
    wanted = lines + 1
    at = end
    size = min(WINDOW_BYTES // 2, max(2 * PRECISION_BYTES, lines * LINE_BYTES))
    while at > 0:
        # No window is longer than what stands before it, so no log that reaches it passes for one.
        begin = at - size if at > 2 * size else 0
        data = await _window(api, ref, begin, at - begin)
        if begin + len(data) < at and (at < end or (begin and not data)):
            raise _NoWindowError  # the end was found further on, or is not even near
        if at == end and data and not data.endswith(b"\n"):
            wanted -= 1  # a line that was begun counts as one
        cut = len(data)
        while wanted > 0:
            cut = data.rfind(b"\n", 0, cut)
            if cut < 0:
                break
            wanted -= 1
        if wanted == 0:
            return await _place(api, ref, begin, data[: cut + 1])
        at = begin
    return Place()


async def _place(api: Api, ref: JobRef, begin: int, before: bytes) -> Place:
    """The place after the bytes *before*, which stand at *begin*."""
    start = begin + len(before)
    if not begin:
        return Place(start, zlib.crc32(before), before[-CURSOR_TAIL_BYTES:])
    known = before[-CURSOR_TAIL_BYTES:]
    if len(known) == CURSOR_TAIL_BYTES:
        return Place.inside(start, known)
    tail = await _window(api, ref, start - CURSOR_TAIL_BYTES, CURSOR_TAIL_BYTES)
    if len(tail) < CURSOR_TAIL_BYTES or not tail.endswith(known):
        raise _NoWindowError
    return Place.inside(start, tail)
