r"""Takes the section markers out of a log that is shown to a person, wherever it is cut into pieces.

A marker is `section_start:1560896352:name[collapsed=true]\r\x1b[0K`: a runner ends it with what makes a
terminal erase it again. The terminal filter lets no erasing through, so the marker has to go by itself.
Grammar: https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
"""

from __future__ import annotations

import re

_LONGEST = 1024
"""Bytes of a marker at most; anything longer is text."""

_MARKER = re.compile(
    rb"section_(?:start|end):[0-9]{1,20}:[A-Za-z0-9_.\-]{1,256}(?:\[[^\]\r\n]{0,512}\])?\r\x1b\[0K"
)
_WORD = b"section_"
_BEGUN = re.compile(
    rb"(?:section_[^\r\n]*(?:\r(?:\x1b(?:\[0?)?)?)?|"
    + b"|".join(re.escape(_WORD[:length]) for length in range(len(_WORD) - 1, 0, -1))
    + rb")\Z"
)


class SectionFilter:
    """Feeds a log through without its markers; holds back at most one marker that is not complete yet."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of the log is certain to be text, markers left out."""
        *whole, rest = _MARKER.split(self._held + data)
        begun = _BEGUN.search(rest, max(0, len(rest) - _LONGEST))
        end = len(rest) if begun is None else begun.start()
        self._held = rest[end:]
        return b"".join([*whole, rest[:end]])

    def finish(self) -> bytes:
        """What was held back: a marker that never ended is text."""
        held, self._held = self._held, b""
        return held
