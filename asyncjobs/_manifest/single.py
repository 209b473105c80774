"""What an answer to a request for one file of an archive may be: the file, or a page that only looks like it.

Any bytes may be such a file, so only the headers can tell. Workhorse unpacks it and has named it in
`Content-Disposition` since it first did (workhorse/internal/artifacts/entry.go); sign-in pages, notices of
proxies and the listing that shadows a file called `tree` come without.
"""

from __future__ import annotations

from collections.abc import Mapping

_PAGES = frozenset({"text/html", "application/xhtml+xml"})


def why_no_member(headers: Mapping[str, str], *, from_api: bool) -> str | None:
    """Why a good answer is certainly not the file, or None.

    Args:
        headers: Of the answer, names in lower case.
        from_api: False when another origin answered, where a file may be stored without a name.
    """
    disposition = headers.get("content-disposition", "").partition(";")[0].strip().lower()
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if disposition == "attachment" or (not from_api and kind not in _PAGES):
        return None
    what = repr(kind[:60])[1:-1] if kind else "something without a type"  # escaped, as a server wrote it
    return f"not the file, which GitLab sends as an attachment, but {what}"


def is_shadowed(member: str) -> bool:
    """Whether a server that lists archives takes a request for this file for one for the listing.

    `artifacts/tree` is such a path, and Grape lets an extension follow (lib/grape/path.rb, `suffix`).
    """
    return member.partition(".")[0] == "tree"
