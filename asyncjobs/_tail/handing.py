"""Bytes from a body to whoever takes them, and letting go of a body that nobody takes from.

A body on its way holds a connection, a slot of the tail lane and several hundred KiB of buffers. A consumer
that does something else meanwhile would hold back every other tail of the client with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from asyncjobs._models import TraceChunk

SLICE_BYTES: Final = 64 << 10
"""So much is handed over at a time, and held while nobody takes it."""

PATIENCE_SECONDS: Final = 10.0
"""How long a body waits that can be taken up where it was left, or near it."""

COSTLY_PATIENCE_SECONDS: Final = 30.0
"""How long one waits that would be sent again from its first byte; longer while nobody needs its slot."""

Take = Callable[[TraceChunk], Awaitable[None]]


class Hands:
    """Hands the bytes of one body over, one piece at a time.

    Args:
        take: Gets each piece; waits while there is no room.
        wanted: Whether somebody waits for the slot that this body holds.
    """

    def __init__(self, take: Take, wanted: Callable[[], bool]) -> None:
        self._take = take
        self._wanted = wanted
        self._taking: asyncio.Future[None] | None = None

    @property
    def are_full(self) -> bool:
        """A piece was not taken in time: the body is to be let go, and what is in hand kept until `empty`."""
        return self._taking is not None

    async def over(self, chunk: TraceChunk, *, costly: bool) -> bool:
        """Hand a piece over; False when nobody took it for too long, which ends the body.

        Args:
            chunk: The piece; it counts as given in either case.
            costly: Much of the body would have to be sent again.

        Cancellation: the piece was not taken.
        """
        taking = asyncio.ensure_future(self._take(chunk))
        patience = COSTLY_PATIENCE_SECONDS if costly else PATIENCE_SECONDS
        try:
            while not (await asyncio.wait([taking], timeout=patience))[0]:
                if not costly or self._wanted():
                    self._taking = taking
                    return False
        except asyncio.CancelledError:
            taking.cancel()
            await asyncio.wait([taking])
            raise
        taking.result()
        return True

    def let_go(self) -> None:
        """Give up the piece in hand, if there is one: nobody will wait for it any more."""
        if self._taking is not None:
            self._taking.cancel()

    async def empty(self) -> None:
        """Wait until the piece in hand is taken; the body is gone by then."""
        if self._taking is not None:
            await self._taking
