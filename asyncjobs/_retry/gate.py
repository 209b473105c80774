"""The gate of one origin and endpoint class: one 429 closes it for everybody, one probe reopens it.

While it is closed, and whatever ends or fails meanwhile, at most one request a second goes out.
Only the probe's own answer opens it: what was sent before it closed says nothing about now. Then
requests are let in at half the concurrency that was under way when the gate closed, and one more
with each second. Times are passed in; nothing waits here.
"""

from __future__ import annotations

from typing import Final

FOREVER: Final = float("inf")
_MOST_RAMP_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 1.0
"""Between a probe that got no answer, or was refused, and the next."""


class Passage:
    """One permission to send, granted by `Gate.ask`. It is the one passage and equals no other."""

    __slots__ = ("closings", "is_heard")

    def __init__(self, closings: int) -> None:
        self.closings = closings
        """How often the gate had closed when it was granted."""
        self.is_heard = False
        """The server has spoken of it, so it is in the server's count."""


class Gate:
    """Open, closed until a moment, probing, or ramping up.

    `ask` grants a passage or says how many seconds to wait before asking again (`inf`: until
    something changes). Each granted passage is either given back, or `sent` and ended with `leave`.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        """Passages granted and not ended."""
        self.on_the_wire = 0
        """Those among them that were really sent; the others wait for a slot."""
        self.unheard = 0
        """Those among these of which the server has said nothing yet; the others are bodies on their way."""
        self.closings = 0
        self._closed_until: float | None = None
        self._probe: Passage | None = None
        self._earlier = 0
        self._ramp_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody has to wait for the end of a closing."""
        return self._closed_until is None

    def ask(self, now: float) -> Passage | float:
        """Grant a passage, or say how long to wait."""
        wait = self._wait(now)
        if wait > 0.0:
            return wait
        passage = Passage(self.closings)
        self.in_flight += 1
        if self._closed_until is not None:
            self._probe = passage
        return passage

    def _wait(self, now: float) -> float:
        if self._closed_until is not None:
            return FOREVER if self._probe is not None else self._closed_until - now
        if self._ramp_since is not None:
            elapsed = now - self._ramp_since
            allowed = max(1, self._earlier // 2) + int(elapsed)
            if self.in_flight >= allowed and allowed < self._earlier and elapsed <= _MOST_RAMP_SECONDS:
                return 1.0 - elapsed % 1.0
        return 0.0

    def closed_for(self, now: float) -> float:
        """Seconds until the gate may open, 0.0 when it is open or about to be probed."""
        return 0.0 if self._closed_until is None else max(0.0, self._closed_until - now)

    def is_stale(self, passage: Passage) -> bool:
        """Whether the gate closed since *passage* was granted: unsent, it is to be given back."""
        return passage.closings != self.closings

    def is_probe(self, passage: Passage) -> bool:
        """Whether everybody else waits for the answer that *passage* brings."""
        return passage is self._probe

    def sent(self) -> None:
        """A granted passage goes onto the wire; it ends with `leave`."""
        self.on_the_wire += 1
        self.unheard += 1

    def heard(self, passage: Passage) -> None:
        """The headers of some answer to it are here, be it a redirect or a refusal."""
        if not passage.is_heard:
            passage.is_heard = True
            self.unheard -= 1

    def give_back(self, passage: Passage) -> None:
        """A granted passage was not used: nothing was sent."""
        self.in_flight -= 1
        if passage is self._probe:
            self._probe = None

    def answered(self, now: float, passage: Passage) -> None:
        """What went with *passage* was answered by anything but a demand to wait; it still has to `leave`."""
        if passage is self._probe:
            self._probe = None
            self._closed_until = None
            self._ramp_since = now

    def leave(self, now: float, passage: Passage) -> None:
        """A passage ended. A probe that was not `answered` before broke off, or was refused."""
        self.heard(passage)
        self.in_flight -= 1
        self.on_the_wire -= 1
        if passage is self._probe:
            self._probe = None
            # If this was a refusal, `close` comes with the server's own figure in the same turn of the
            # loop; whoever waits must not slip through before it.
            self._closed_until = now + _PAUSE_SECONDS

    def close(self, now: float, seconds: float) -> None:
        """The server asked for silence; the passage that learned it ends with `leave` all the same."""
        if self._probe is not None:
            seconds = max(seconds, _PAUSE_SECONDS)
        if self._closed_until is None or self._probe is not None:
            self.closings += 1
        if self._closed_until is None:
            self._earlier = self.on_the_wire
        self._closed_until = max(self._closed_until or 0.0, now + seconds)
        self._probe = None
