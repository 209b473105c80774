"""What an answer to a trace request may be: a log is plain text or bytes without a type, never a page.

A sign-in page, a maintenance notice or a proxy's greeting comes with status 200 too, and once it is taken
for a log nothing later can tell. GitLab itself always says `text/plain` (lib/api/ci/jobs.rb); an object
store says whatever the file was stored with, so only what is certainly no log is refused.
GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-log-file
"""

from __future__ import annotations

import re
from typing import Final

from asyncjobs._protocol.urls import printable

WITH_LOG: Final = frozenset({200, 206})
"""Statuses whose body would be taken for a log."""

_NO_LOG: Final = re.compile(
    r"(?:text|application)/(?:html|xhtml\+xml|json|xml|css|javascript|x-javascript|ecmascript|pdf)"
    r"|[^/;,]+/[^/;,]+\+(?:json|xml)"
    r"|(?:image|audio|video|font|multipart)/.*"
)


def why_no_log(status: int, content_type: str | None, *, ranged: bool) -> str | None:
    """Say why the body of an answer cannot be a log, or give None when it may be one.

    Args:
        status: The HTTP status.
        content_type: The header as it came, None without one.
        ranged: A part was asked for with `Range`; nothing else may be answered with a part.
    """
    if status in {206, 416} and not ranged:
        return f"an answer to a Range ({status}) that was not asked for"
    if status not in WITH_LOG:
        return None
    kind = (content_type or "").partition(";")[0].strip().lower()
    if _NO_LOG.fullmatch(kind):
        return f"this is not a job's log but {printable(kind, limit=60)}"
    return None
