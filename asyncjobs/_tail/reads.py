"""One poll of a tail: a single read of a trace, and the handing over of what is new in it.

Sends what `asyncjobs._trace.reading` asks for and lets it judge the answer as it streams past.
GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs

from asyncjobs._api import Api, Body
from asyncjobs._concurrency import Lane
from asyncjobs._errors import RequestError, ResponseError
from asyncjobs._models import Job, JobRef, TraceChunk
from asyncjobs._tail.handing import SLICE_BYTES, Hands
from asyncjobs._trace.answer import Answer
from asyncjobs._trace.asking import WINDOW_BYTES, Ask, Delivery, OriginMemory, Reset, Result
from asyncjobs._trace.reading import TraceReader

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
    certain: bool = False
    """The answer proves that there was nothing after it."""


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
    try:
        answer, result, new, wire = await _pass_on(api, ref, reader, ask, hands, final=final)
        # From here on nothing is held but what is in hand: no connection, no slot.
        if hands.are_full:
            await hands.empty()
            return Polled(Result.MORE, new, wire, None)
    finally:
        # A cancel, or an error while the body is closed, would leave a task that nobody waits for.
        hands.let_go()
    for fresh in answer.rest():
        new += len(fresh)
        await take(TraceChunk(reader.place.offset - len(fresh), fresh))
    erased = job is not None and job.erased_at is not None
    reset = reader.conclude(result, api.clock.monotonic(), persist=persist, erased=erased)
    return Polled(result, new, wire, reset, answer.certain)


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
