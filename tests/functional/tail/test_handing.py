"""Handing bytes over: what was not taken in time is kept, and given up when nobody waits for it."""

from __future__ import annotations

import asyncio

from asyncjobs import TraceChunk
from asyncjobs._tail.handing import Hands

CHUNK = TraceChunk(0, b"bytes")


async def test_a_piece_in_hand_is_taken_or_given_up() -> None:
    """Whoever waits for it sees it taken; whoever does not leaves no task behind."""
    for give_up in (False, True):
        room = asyncio.Event()
        taken: list[TraceChunk] = []

        async def take(
            chunk: TraceChunk, room: asyncio.Event = room, taken: list[TraceChunk] = taken
        ) -> None:
            await room.wait()
            taken.append(chunk)

        hands = Hands(take, lambda: True)
        assert not await hands.over(CHUNK, costly=False)
        assert hands.are_full
        if give_up:
            hands.let_go()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert taken == []
        else:
            room.set()
            await hands.empty()
            hands.let_go()
            assert taken == [CHUNK]
