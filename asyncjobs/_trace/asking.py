"""What is asked of a server that gives a log, what an answer may mean, and what both have taught so far.

Shared by the two halves of reading on: `asyncjobs._trace.reading` decides what to ask, and
`asyncjobs._trace.answer` digests what comes.
GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

from asyncjobs._trace.place import SAMPLE_BYTES, Recheck

WINDOW_BYTES: Final = 512_000
"""How much one window asks for: what GitLab's own clients of the log reader ask for."""

MIN_OVERLAP: Final = 32
"""Fewest known bytes a window repeats; more when much arrives at once, about 3 % of it."""

DOUBTS: Final = 3
"""Contradicting answers in a row before the past is checked, and answers of one length before a
body whose end HTTP does not prove is believed to be whole."""


class Delivery(Enum):
    """How a server gives a log."""

    UNKNOWN = "unknown"
    WINDOW = "window"
    WHOLE = "whole"


class OriginMemory:
    """What tails of one origin have learned about it, for the next tail to begin with."""

    def __init__(self) -> None:
        self._kinds: dict[bool, Delivery] = {}

    def delivery(self, *, final: bool) -> Delivery:
        """How logs of ended (or of running) jobs came lately."""
        return self._kinds.get(final, Delivery.UNKNOWN)

    def learn(self, delivery: Delivery, *, final: bool) -> None:
        """Remember the newest evidence."""
        self._kinds[final] = delivery


@attrs.frozen
class Ask:
    """One request to make."""

    offset: int | None = None
    """`byte_offset`, or None to leave both parameters out."""
    limit: int | None = None
    range_start: int | None = None
    if_none_match: str | None = None


class Result(Enum):
    """What an answer brought."""

    SAME = "same"
    GROWN = "grown"
    MORE = "more"
    """There is more to ask for at once: the window was full, or the answer calls for another."""
    SHORTER = "shorter"
    CHANGED = "changed"
    UNPROVEN = "unproven"
    """The answer may have been cut; nothing follows from its length."""
    CHECKED = "checked"
    """A comparison of the whole log ended."""


DOUBTFUL: Final = frozenset({Result.SHORTER, Result.CHANGED})


@attrs.frozen
class Reset:
    """The past changed: delivery goes on at an earlier place."""

    offset: int
    reason: str
    """`erased`, `rewritten` or `shrunk`."""


@attrs.frozen
class Claim:
    """What an answer said of a log if it was a window, to be asked for once more in another size."""

    start: int
    size: int
    full: bool
    """The window was full, so there may be more."""


@attrs.define
class Knowledge:
    """What the answers of one tail have taught about its server."""

    memory: OriginMemory
    delivery: Delivery = Delivery.UNKNOWN
    etag: str | None = None
    """Validator of the whole log as far as it was delivered."""
    overlap: int = MIN_OVERLAP
    """Fewest bytes to ask for again."""
    range_works: bool = True
    claim: Claim | None = None
    """To be proved by the next answer."""
    recheck: Recheck | None = None
    """A comparison of the whole log under way."""
    unproven: int = 0
    """Comparisons in a row that may have been cut."""
    _length: int = -1
    _agreeing: int = 0
    _reached: int = 0

    def learn(self, delivery: Delivery, *, final: bool) -> None:
        """Keep the newest evidence, for the next tail of this origin too."""
        self.delivery = delivery
        self.memory.learn(delivery, final=final)

    def grew(self, size: int) -> None:
        """Note how much came at once."""
        self.overlap = max(MIN_OVERLAP, min(SAMPLE_BYTES, size // 32))
        self._reached = 0

    def reached(self, *, proven: bool) -> bool:
        """Whether the log ends where an answer ended, after all known bytes: HTTP proves it, or several did.

        Shorter ones may come between them, cut or lagging.
        """
        self._reached += 1
        return proven or self._reached >= DOUBTS

    def shorter(self, size: int, *, proven: bool) -> bool:
        """Whether a log is as short as *size*: HTTP proves it, or answers in a row are."""
        self._agreeing = self._agreeing + 1 if size == self._length else 1
        self._length = size
        return proven or self._agreeing >= DOUBTS
