"""Counts the bytes of downloads: progress for the caller, a speed limit over all of them together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from asyncjobs._clock import Clock
from asyncjobs._models import DownloadProgress, JobRef

_STEP_BYTES = 1024 * 1024
"""Progress is told about this often: more would cost more than the transfer itself."""
_BURST_SECONDS = 0.25


class Bandwidth:
    """At most so many bytes a second over everybody who asks; None is no limit."""

    def __init__(self, clock: Clock, bytes_per_second: int | None) -> None:
        self._clock = clock
        self._rate = bytes_per_second
        self._paid_until = float("-inf")

    async def take(self, count: int) -> None:
        """Wait until *count* more bytes are within the limit."""
        if self._rate is None:
            return
        now = self._clock.monotonic()
        # Each byte moves the moment until which the line is paid for; a little unused time is kept.
        self._paid_until = max(self._paid_until, now - _BURST_SECONDS) + count / self._rate
        if self._paid_until > now:
            await self._clock.sleep(self._paid_until - now)


@attrs.define
class Meter:
    """The bytes of one download."""

    bandwidth: Bandwidth
    ref: JobRef | None
    path: Path
    report: Callable[[DownloadProgress], object] | None = None
    on_wire: Callable[[int], None] = lambda _: None
    """Told of every byte that crossed the network, repeated ones included."""
    total: int | None = None
    _told: int = -1

    def at(self, received: int) -> None:
        """Tell where a body begins; less than before when a download starts over."""
        self._tell(received)

    async def count(self, new_bytes: int, received: int) -> None:
        """Count bytes that arrived, and wait when they came too fast."""
        self.on_wire(new_bytes)
        if received - self._told >= _STEP_BYTES or received == self.total:
            self._tell(received)
        await self.bandwidth.take(new_bytes)

    def _tell(self, received: int) -> None:
        if self.report is not None and received != self._told:
            self._told = received
            self.report(DownloadProgress(self.ref, self.path, received, self.total))
