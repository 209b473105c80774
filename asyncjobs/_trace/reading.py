"""How to read on in a trace, whatever kind of server gives it, without losing or doubling a byte.

Servers answer in three ways, and the version number does not tell which: byte windows
(`byte_offset`/`byte_limit`, a plain 200), `Range` with 206 (archived logs), or always the whole log.
A `TraceReader` says what to ask next, digests each answer as it streams past, and gives out only
bytes whose past it has recognised. It knows neither requests nor time.

- Every answer has to repeat something known: a window its first bytes, a whole log all of them (by
  CRC-32, without holding any). What repeats nothing is not believed.
- A window and a whole log both come as 200. One that begins with the last known bytes is a window, one
  that begins with the first known bytes is the whole log, one longer than asked is certainly whole. The
  overlap is chosen so that the two beginnings differ.
- They never do in a log of one byte repeated. There an answer is counted until its length or another byte
  tells. One that could be an old copy of the whole is a claim, and not believed: all that it would bring is
  asked for once more, from another place to the same end. Only a window comes in just the other size.
- One shorter, empty or different answer proves nothing: web nodes lag and archives flicker. When the
  doubt persists the whole log is compared once, and only what really changed is read again, after a `Reset`.

GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file, merge requests 257010 (windows) and
255994 (Range), issue 452097 (an archived log that differs from the live one).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from asyncjobs._trace.answer import Answer
from asyncjobs._trace.asking import (
    DOUBTFUL,
    DOUBTS,
    WINDOW_BYTES,
    Ask,
    Delivery,
    Knowledge,
    OriginMemory,
    Reset,
    Result,
)
from asyncjobs._trace.place import SAMPLE_BYTES, Place

SHORT_BYTES: Final = 32 << 10
"""A log no longer than this is read once from its start where its beginning is not known."""


class TraceReader:
    """Reads one trace from a place on: `ask`, then one `Answer` per request, then `conclude`.

    Args:
        place: Where to begin.
        memory: What is known of the origin; shared by the tails of one client.
    """

    def __init__(self, place: Place | None = None, memory: OriginMemory | None = None) -> None:
        self.place = place or Place()
        self._known = Knowledge(memory or OriginMemory())
        self._plain = False
        self._doubts = 0
        self._doubted_at = 0.0

    @property
    def delivery(self) -> Delivery:
        """How this log came lately."""
        return self._known.delivery

    @property
    def in_doubt(self) -> bool:
        """The last answers contradicted what was delivered."""
        return self._doubts > 0

    @property
    def wants_check(self) -> bool:
        """The next ask compares the whole log; it need not wait for a push."""
        return self._known.recheck is not None

    def ask(self, *, final: bool = False, archived: bool = False) -> Ask:
        """Say what to request next.

        Args:
            final: The job is over, so its log may come in another way than before.
            archived: The job's record names its archived log: only then is `Range` worth a try.
        """
        known, place = self._known, self.place
        if known.recheck is not None:
            return Ask()
        if self._plain:
            return Ask(if_none_match=known.etag)
        if known.delivery is Delivery.UNKNOWN:
            known.delivery = known.memory.delivery(final=final)
        if known.claim is not None:
            return Ask(known.claim.start, known.claim.size)
        least = len(place.sample(SAMPLE_BYTES if final else known.overlap))
        if known.delivery is Delivery.WHOLE and archived and place.offset and known.range_works:
            return Ask(range_start=place.offset - least, if_none_match=known.etag)
        tells = place.overlap(least)
        if known.delivery is Delivery.WHOLE:
            if tells is None:
                return Ask(if_none_match=known.etag)
            # Old servers ignore the parameters; one that was upgraded shows itself by obeying.
            return Ask(place.offset - tells, WINDOW_BYTES, None, known.etag)
        if place.offset == least:
            return Ask(0, WINDOW_BYTES, None, known.etag or _expected_etag(place.sample(least)))
        if place.head is None:
            # First the beginning: without it no window can be told from the whole.
            short = place.offset <= SHORT_BYTES
            return Ask(0, WINDOW_BYTES, None, known.etag) if short else Ask(0, SAMPLE_BYTES)
        if tells is None and place.run is None:
            return Ask(if_none_match=known.etag)
        sample = place.sample(tells or least)
        # Where only lengths tell, the limit is one that the whole log certainly exceeds.
        limit = WINDOW_BYTES if tells else min(WINDOW_BYTES, place.offset - 1)
        return Ask(place.offset - len(sample), limit, None, _expected_etag(sample))

    def answer(self, ask: Ask, status: int, headers: Mapping[str, str], *, final: bool = False) -> Answer:
        """Begin to digest the answer to *ask*. Header names are in lower case."""
        return Answer(self._known, self.place, ask, status, headers, final=final)

    def conclude(
        self, result: Result, now: float, *, persist: float = 10.0, erased: bool = False
    ) -> Reset | None:
        """Draw the consequence of an answer that ended.

        Args:
            result: What `Answer.end` gave.
            now: Seconds on any monotonic clock.
            persist: Seconds a contradiction has to last before the past is checked.
            erased: The job's record says that its log was erased.

        Returns:
            The reset to report, or None. Afterwards `place` is where delivery goes on.
        """
        if result is Result.UNPROVEN:
            return None
        if result is Result.CHECKED:
            return self._checked(erased=erased)
        if result not in DOUBTFUL:
            self._doubts = 0
            return None
        if not self._doubts:
            self._doubted_at = now
        self._doubts += 1
        if erased or (self._doubts >= DOUBTS and now - self._doubted_at >= persist):
            self._known.recheck = self.place.recheck()
        return None

    def _checked(self, *, erased: bool) -> Reset | None:
        known = self._known
        recheck, known.recheck = known.recheck, None
        self._doubts = known.unproven = 0
        # Whatever way of reading led to the doubt, find the kind of server anew.
        known.delivery, known.etag = Delivery.UNKNOWN, None
        assert recheck is not None
        if recheck.complete:
            # Parts of this log contradict the whole of it: read nothing but the whole from here on.
            self._plain = True
            return None
        self.place.rewind(recheck.good_offset, recheck.good_crc, recheck.good_tail)
        if recheck.seen == 0 or erased:
            return Reset(recheck.good_offset, "erased")
        return Reset(recheck.good_offset, "rewritten" if recheck.differs else "shrunk")


def _expected_etag(body: bytes) -> str | None:
    """The ETag Rack gives a body, so that an unchanged window costs no byte; none for an empty one."""
    return f'W/"{hashlib.sha256(body).hexdigest()[:32]}"' if body else None
