"""Single reads of a trace: one poll of a tail, a part from an offset, the whole log.

Sends what `asyncjobs._trace.reading` asks for and lets it judge the answer as it streams past.
GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
"""

from __future__ import annotations

import contextlib
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import attrs

from asyncjobs._api import Api, Body
from asyncjobs._concurrency import Lane
from asyncjobs._errors import RequestError, ResponseError, TraceTooLargeError, TruncatedBodyError
from asyncjobs._models import Job, JobRef, TraceChunk
from asyncjobs._tail.handing import SLICE_BYTES, Hands
from asyncjobs._trace.answer import Answer
from asyncjobs._trace.asking import WINDOW_BYTES, Ask, Delivery, OriginMemory, Reset, Result
from asyncjobs._trace.reading import TraceReader

MAX_WHOLE_BYTES: Final = 128 << 20
"""Most bytes a read into memory gives: GitLab's own limit for a log is 100 MB."""

_BEYOND: Final = 1 << 40
"""An offset after the end of every log: a server that knows windows answers with nothing."""

_Read = tuple[bytes, bool, bool]
"""Bytes, whether nothing follows them now, and whether HTTP proves that they are all."""

_memories: weakref.WeakKeyDictionary[Api, OriginMemory] = weakref.WeakKeyDictionary()


def memory_of(api: Api) -> OriginMemory:
    """What the tails of one client have learned about its server."""
    return _memories.setdefault(api, OriginMemory())


@attrs.frozen
class Polled:
    """What one poll brought."""

    result: Result
    new_bytes: int
    wire_bytes: int
    reset: Reset | None


async def poll(
    api: Api,
    ref: JobRef,
    reader: TraceReader,
    take: Callable[[TraceChunk], Awaitable[None]],
    *,
    job: Job | None = None,
    persist: float = 10.0,
) -> Polled:
    """Read once, hand over what is new, and say what the answer meant.

    Args:
        api: The client's endpoints.
        ref: The job.
        reader: Where the tail stands; it moves with every byte handed over.
        take: Gets each piece of new bytes; while it waits, the body waits, and is let go after a while.
        job: The job's record as it was before this read.
        persist: Seconds a contradiction has to last before the past is checked.

    Raises:
        RequestError, ResponseError: This read failed; what was handed over stays, and the next read
            goes on after it.
    """
    final = job is not None and job.status.is_final
    archived = final and job is not None and job.trace_size_bytes is not None
    ask = reader.ask(final=final, archived=archived)
    hands = Hands(take, lambda: api.exchange.budget.slots[Lane.TAIL].waiting > 0)
    answer, result, new, wire = await _pass_on(api, ref, reader, ask, hands, final=final)
    # From here on nothing is held but what is in hand: no connection, no slot.
    if hands.are_full:
        await hands.empty()
        return Polled(Result.MORE, new, wire, None)
    for fresh in answer.rest():
        new += len(fresh)
        await take(TraceChunk(reader.place.offset - len(fresh), fresh))
    erased = job is not None and job.erased_at is not None
    reset = reader.conclude(result, api.clock.monotonic(), persist=persist, erased=erased)
    return Polled(result, new, wire, reset)


async def _pass_on(
    api: Api, ref: JobRef, reader: TraceReader, ask: Ask, hands: Hands, *, final: bool
) -> tuple[Answer, Result, int, int]:
    """Send one request and hand over what is new, until the end or until nobody takes it.

    Gives the answer, what it brought, and how many bytes were new and were received.
    """
    new = 0
    async with api.open_trace(
        ref, offset=ask.offset, limit=ask.limit, range_start=ask.range_start, if_none_match=ask.if_none_match
    ) as body:
        answer = reader.answer(ask, body.status, body.headers, final=final)
        try:
            if not answer.settled():
                async for fresh in _fresh(body, answer):
                    new += len(fresh)
                    in_parts = body.status == 206 or reader.delivery is Delivery.WINDOW
                    costly = not in_parts and reader.place.offset > WINDOW_BYTES
                    chunk = TraceChunk(reader.place.offset - len(fresh), fresh)
                    if not await hands.over(chunk, costly=costly):
                        break
            if hands.are_full:
                answer.broken()
                return answer, Result.MORE, new, body.received
            return answer, answer.end(proven=body.framing != "close"), new, body.received
        except BaseException:
            answer.broken()
            raise


async def _fresh(body: Body, answer: Answer) -> AsyncIterator[bytes]:
    """The new bytes of a body, in slices, as far as it matters."""
    async for piece in body:
        for at in range(0, len(piece), SLICE_BYTES):
            # What is not fed yet was not read: after a break it is asked for again.
            fresh = answer.feed(piece[at : at + SLICE_BYTES])
            if fresh:
                yield fresh
            if answer.settled():
                return


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
    return (await _agreed(api, "get_trace", lambda: _whole(api, ref, max_bytes)))[0]


async def _agreed(api: Api, call: str, read: Callable[[], Awaitable[_Read]]) -> _Read:
    """Read, retrying; what HTTP does not prove to be whole has to come twice."""
    attempts = api.attempts("read", call=call)
    seen: tuple[int, int] | None = None
    while True:
        failure: RequestError | ResponseError
        try:
            answer = await read()
        except (RequestError, ResponseError) as error:
            failure = error
        else:
            data, _, proven = answer
            facts = len(data), zlib.crc32(data)
            if proven or facts == seen:
                return answer
            first, seen = seen is None, facts
            if first:
                continue
            failure = TruncatedBodyError("two reads of the log differ, and neither is proven to be whole")
        await attempts.failed(failure)


async def _whole(api: Api, ref: JobRef, max_bytes: int) -> _Read:
    pieces: list[bytes] = []
    size = 0
    async with api.open_trace(ref) as body:
        async for piece in body:
            size += len(piece)
            if size > max_bytes:
                raise TraceTooLargeError(f"the trace of {ref} is longer than {max_bytes} bytes")
            pieces.append(piece)
        return b"".join(pieces), True, body.framing != "close"


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
        data, ended = await read_part(api, ref, offset + size, min(WINDOW_BYTES, most - size), most - size)
        pieces.append(data)
        size += len(data)
        if ended:
            break
    if size > MAX_WHOLE_BYTES:
        raise TraceTooLargeError(f"more than {MAX_WHOLE_BYTES} bytes of the trace of {ref}")
    return TraceChunk(offset, b"".join(pieces))


async def read_part(api: Api, ref: JobRef, offset: int, window: int, most: int) -> tuple[bytes, bool]:
    """Read bytes from *offset* on, retrying; gives them and whether nothing more is there now.

    A window gives at most *window* bytes, a whole log up to *most* of its bytes after the offset.

    Raises:
        RequestError, ResponseError: No usable answer within the retry policy.
    """
    data, ended, _ = await _agreed(api, "read_trace", lambda: _part(api, ref, offset, window, most))
    return data, ended


async def _part(api: Api, ref: JobRef, offset: int, window: int, most: int) -> _Read:
    kept = bytearray()
    head = bytearray()
    size = 0
    async with api.open_trace(ref, offset=offset, limit=window) as body:
        async for piece in body:
            if size <= window:
                head += piece
            if size + len(piece) > offset and size < offset + most:
                kept += piece[max(0, offset - size) : offset + most - size]
            size += len(piece)
            if size > window and size >= offset + most:
                break
    proven = body.framing != "close"
    if size > window:
        # Longer than asked for: the server ignored the parameters and this is the whole log.
        return bytes(kept), len(kept) < most, proven or len(kept) == most
    if offset == 0 or size == 0 or await _was_window(api, ref, size):
        return bytes(head), size < window, proven or size == window
    return bytes(kept), len(kept) < most, proven


async def _was_window(api: Api, ref: JobRef, size: int) -> bool:
    """Whether an answer of *size* bytes was a window: such a server sends as little as it is asked for.

    Raises:
        TruncatedBodyError: It sends even less, so it contradicts itself.
        RequestError, ResponseError: No usable answer.
    """
    limit = 1 if size > 1 else 2
    got = 0
    async with api.open_trace(ref, offset=0, limit=limit) as body:
        async for piece in body:
            got += len(piece)
            if got > limit:
                return False
    if got == limit:
        return True
    if got == size:
        return False
    raise TruncatedBodyError(f"a log of {size} bytes and more was answered with {got}")


async def knows_windows(api: Api, ref: JobRef) -> bool:
    """Whether the server reads this (not empty) log in windows: beyond its end there is nothing then.

    Raises:
        RequestError, ResponseError: No usable answer.
    """
    async with api.open_trace(ref, offset=_BEYOND, limit=1) as body:
        async for _ in body:
            return False
    return True


async def quietly(api: Api, step: Awaitable[Polled]) -> Polled | ResponseError | RequestError:
    """Give a failed poll as a value, so that whoever polls decides what it means.

    The tail's own pace is the retry of a poll; the client's retry layer is told all the same, because a
    throttled answer closes the gate for everybody.
    """
    try:
        return await step
    except (RequestError, ResponseError) as error:
        failure = error
    with contextlib.suppress(RequestError, ResponseError):
        await api.attempts("poll", call="tail").failed(failure)
    return failure
