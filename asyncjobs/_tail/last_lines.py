"""Where the last N lines of a log begin, found without reading the log from its start where that is possible.

A server with byte windows is asked for single bytes until the end is known, then for windows before it.
Another one sends everything, and the line starts are counted as it streams past.
"""

from __future__ import annotations

from collections import deque

from asyncjobs._api import Api
from asyncjobs._errors import RequestError, ResponseError
from asyncjobs._models import CURSOR_TAIL_BYTES, JobRef
from asyncjobs._tail.reads import knows_windows, read_part
from asyncjobs._trace.place import Place
from asyncjobs._trace.reading import WINDOW_BYTES

PRECISION_BYTES = 32 << 10
"""How exactly the end of a growing log is looked for."""

LINE_BYTES = 200
"""What a line is assumed to take when the first window is chosen."""


async def place_of_last_lines(api: Api, ref: JobRef, lines: int, *, size: int | None) -> Place:
    """Find the place after which the log has its last *lines* lines.

    Args:
        api: The client's endpoints.
        ref: The job.
        lines: How many; 0 gives the end.
        size: Length of the log when its record says it, else None.

    Raises:
        RequestError, ResponseError: The log cannot be read.
    """
    attempts = api.attempts("read", call="tail_lines")
    while True:
        try:
            return await _find(api, ref, lines, size)
        except (RequestError, ResponseError) as error:
            failure = error
        await attempts.failed(failure)


async def _find(api: Api, ref: JobRef, lines: int, size: int | None) -> Place:
    if not await knows_windows(api, ref):
        return await _by_counting(api, ref, lines)
    return await _by_windows(api, ref, lines, size or await _end_of(api, ref))


async def _by_counting(api: Api, ref: JobRef, lines: int) -> Place:
    """Stream the whole log and remember where the last lines began."""
    starts: deque[int] = deque([0], maxlen=lines + 1)
    at, last = 0, b"\n"
    async with api.open_trace(ref) as body:
        async for piece in body:
            newline = piece.find(b"\n")
            while newline >= 0:
                starts.append(at + newline + 1)
                newline = piece.find(b"\n", newline + 1)
            at += len(piece)
            last = piece[-1:]
    if last != b"\n":
        # The line after the last newline has begun, so it is one of the lines asked for.
        starts.append(at)
    start = starts[0]
    return Place.inside(start, b"") if start else Place()


async def _end_of(api: Api, ref: JobRef) -> int:
    """The length of a log, to within `PRECISION_BYTES` below."""
    low, high = 0, WINDOW_BYTES
    while await _reaches(api, ref, high):
        low, high = high, high * 4
    while high - low > PRECISION_BYTES:
        middle = (low + high) // 2
        if await _reaches(api, ref, middle):
            low = middle
        else:
            high = middle
    return high


async def _reaches(api: Api, ref: JobRef, offset: int) -> bool:
    async with api.open_trace(ref, offset=offset, limit=1) as body:
        async for _ in body:
            return True
    return False


async def _by_windows(api: Api, ref: JobRef, lines: int, end: int) -> Place:
    """Read backwards from *end*, window by window, until enough line starts are seen."""
    wanted = lines + 1
    at = end
    size = min(WINDOW_BYTES, max(2 * PRECISION_BYTES, lines * LINE_BYTES))
    is_last = True
    while at > 0:
        begin = max(0, at - size)
        data, _ = await read_part(api, ref, begin, at - begin, at - begin)
        if is_last and data and not data.endswith(b"\n"):
            wanted -= 1
        is_last = is_last and not data
        newline = len(data)
        while wanted > 0:
            newline = data.rfind(b"\n", 0, newline)
            if newline < 0:
                break
            wanted -= 1
        if wanted == 0:
            return await _place(api, ref, begin + min(newline + 1, len(data)))
        at = begin
    return Place()


async def _place(api: Api, ref: JobRef, start: int) -> Place:
    before = max(0, start - CURSOR_TAIL_BYTES)
    tail, _ = await read_part(api, ref, before, start - before, start - before)
    return Place.inside(start, tail) if start else Place()
