"""Pages: where the next one is, when to stop, and which items were seen already.

Only the position is taken from a server's `next` link (page or cursor), never its host, path or
anything else: an absolute URL from a server is a redirect in disguise.
GitLab: https://docs.gitlab.com/api/rest/#pagination
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from urllib.parse import parse_qsl, urlsplit

_POSITION = ("cursor", "page", "id_after", "id_before")
_MAX_OFFSET_PAGES = 10_000
_MAX_KEYSET_PAGES = 1_000_000
_CIRCLE_PAGES = 50
_SEEN_PAGES = 25

_REL = re.compile(r';\s*rel\s*=\s*"?([^";,]+)"?', re.IGNORECASE)
_NEXT = re.compile(r'\brel\s*=\s*"?[^";,]*\bnext\b', re.IGNORECASE)

Query = tuple[tuple[str, str], ...]


class PagingError(ValueError):
    """The server's paging cannot be followed; the message says why."""


def link_targets(header: str) -> dict[str, str]:
    """The targets of a `Link` header by relation (RFC 8288); malformed parts are passed over."""
    found: dict[str, str] = {}
    for target, parameters in re.findall(r"<([^>]*)>([^<]*)", header):
        match = _REL.search(parameters)
        if match:
            for rel in match[1].split():
                found.setdefault(rel.lower(), target)
    return found


def next_position(headers: Mapping[str, str]) -> Query:
    """The query parameters that name the next page; empty on the last page.

    Raises:
        PagingError: There is a next link that is malformed or has no position in it: ending there
            would lose every page that follows without a word.
    """
    link = headers.get("link", "")
    target = link_targets(link).get("next")
    if target is None and _NEXT.search(link):
        raise PagingError("the link to the next page is malformed")
    if target is None:
        page = headers.get("x-next-page", "").strip()
        return (("page", page),) if page.isascii() and page.isdigit() else ()
    try:
        given = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    except ValueError:
        given = {}
    position = tuple((name, given[name]) for name in _POSITION if given.get(name))
    if not position:
        raise PagingError("the link to the next page names neither a page nor a cursor")
    # In keyset mode a stray `page` is ignored by the server, and would hide that the cursor stands still.
    return position[:1] if position[0][0] == "cursor" else position


def page_query(query: Query, position: Query) -> Query:
    """The query of the page at *position*, everything else as first asked."""
    return (*(pair for pair in query if pair[0] not in _POSITION), *position)


class PageGuard:
    """Notices a listing that runs in circles or does not end.

    Raises `PagingError` from `advance`.
    """

    def __init__(self) -> None:
        self._pages = 0
        self._recent: deque[Query] = deque(maxlen=_CIRCLE_PAGES)

    def advance(self, position: Query) -> None:
        """Note that the listing goes on at *position*."""
        self._pages += 1
        if position in self._recent:
            raise PagingError("the server names the same next page twice")
        self._recent.append(position)
        most = _MAX_OFFSET_PAGES if position[0][0] == "page" else _MAX_KEYSET_PAGES
        if self._pages > most:
            raise PagingError(f"more than {most} pages")


class Seen:
    """Drops items that stood on one of the last pages already: offset pages shift while jobs are created.

    Bounded: the keys of the last 25 pages at least and 50 at most are kept, so a shift by up to 2,500
    items is noticed.
    """

    def __init__(self) -> None:
        self._pages = 0
        self._recent: set[Hashable] = set()
        self._older: set[Hashable] = set()

    def new(self, keys: Iterable[Hashable]) -> list[bool]:
        """For each key of one page, whether it is new."""
        if self._pages == _SEEN_PAGES:
            self._pages, self._recent, self._older = 0, set(), self._recent
        self._pages += 1
        answer: list[bool] = []
        for key in keys:
            answer.append(key not in self._recent and key not in self._older)
            self._recent.add(key)
        return answer
