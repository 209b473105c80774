"""Pagination: offset pages with their headers, keyset pages with their cursors, and Link.

Sources: lib/gitlab/pagination/offset_header_builder.rb, lib/gitlab/pagination/keyset/header_builder.rb.
A Link is rebuilt from the configured host and carries every parameter, path parameters included.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar
from urllib.parse import quote, urlencode

from asyncjobs.testing._answers import Answer, error, json_answer
from asyncjobs.testing._auth import base_url
from asyncjobs.testing._call import Call, Params, decode

_DEFAULT_PER_PAGE = 20
_MAX_PER_PAGE = 100
_OFFSET_LIMIT = 50_000
_NO_KEYSET = "Keyset pagination is not yet available for this type of request"
_TOO_FAR = (
    "Offset pagination has a maximum allowed offset of 50000 for requests that return objects of type {}. "
    "Remaining records can be retrieved using keyset pagination."
)


class _Numbered(Protocol):
    @property
    def id(self) -> int: ...


T = TypeVar("T")
N = TypeVar("N", bound=_Numbered)


def offset_page(
    call: Call,
    rows: Sequence[T],
    render: Callable[[T], object],
    *,
    totals: bool = True,
    limited: str | None = None,
) -> Answer:
    """One page by number.

    Args:
        call: The request with `page` and `per_page`.
        rows: All rows in order.
        render: Row to JSON.
        totals: False for endpoints that never count.
        limited: Class name for the 405 past 50,000 rows, where that is enforced.

    Raises:
        Refusal: 400 for bad numbers, 405 past the limit.
    """
    page = max(1, call.number("page", 1))
    per_page = _per_page(call)
    if limited and call.settings.enforce_offset_limit and page * per_page > _OFFSET_LIMIT:
        raise error(405, _TOO_FAR.format(limited))
    start = (page - 1) * per_page
    answer = json_answer(200, [render(row) for row in rows[start : start + per_page]])
    counted = totals and len(rows) <= call.settings.count_limit
    pages = max(1, -(-len(rows) // per_page))
    following = page + 1 if start + per_page < len(rows) else None
    previous = page - 1 if page > 1 else None
    answer.put("X-Page", str(page))
    answer.put("X-Per-Page", str(per_page))
    answer.put("X-Next-Page", "" if following is None else str(following))
    answer.put("X-Prev-Page", "" if previous is None else str(previous))
    if counted:
        answer.put("X-Total", str(len(rows)))
        answer.put("X-Total-Pages", str(-(-len(rows) // per_page)))
    links = [("prev", previous), ("next", following), ("first", 1), ("last", pages if counted else None)]
    texts = [
        _link(call, rel, {"page": str(number), "per_page": str(per_page)}) for rel, number in links if number
    ]
    answer.put("Link", ", ".join(texts))
    return answer


def _per_page(call: Call) -> int:
    return min(_MAX_PER_PAGE, max(1, call.number("per_page", _DEFAULT_PER_PAGE)))


def wants_keyset(call: Call) -> bool:
    """Whether the caller asked for keyset pages and this generation knows them."""
    return call.rules.keyset and call.get("pagination") == "keyset"


def cursor_page(call: Call, rows: Sequence[N], render: Callable[[N], object]) -> Answer:
    """One keyset page of rows by falling id, addressed by an opaque cursor.

    Raises:
        Refusal: 405 for another order, 400 for a bad cursor.
    """
    if (call.get("order_by") or "id") != "id" or (call.get("sort") or "desc") != "desc":
        raise error(405, _NO_KEYSET)
    per_page = _per_page(call)
    below = _read_cursor(call.get("cursor"))
    ordered = sorted(rows, key=lambda row: row.id, reverse=True)
    if below is not None:
        ordered = [row for row in ordered if row.id < below]
    page = ordered[:per_page]
    answer = json_answer(200, [render(row) for row in page])
    if len(ordered) > per_page:
        cursor = _write_cursor(page[-1].id)
        answer.put("Link", _link(call, "next", {"cursor": cursor, "per_page": str(per_page)}, drop=("page",)))
    return answer


def id_page(call: Call, rows: Sequence[N], render: Callable[[N], object]) -> Answer:
    """One keyset page of projects: the next link carries `id_after` or `id_before`.

    Raises:
        Refusal: 405 unless `order_by=id` was asked for.
    """
    if call.get("order_by") != "id":
        raise error(405, _NO_KEYSET)
    descending = (call.get("sort") or "desc") == "desc"
    per_page = _per_page(call)
    ordered = sorted(rows, key=lambda row: row.id, reverse=descending)
    page = ordered[:per_page]
    answer = json_answer(200, [render(row) for row in page])
    if len(ordered) > per_page:
        bound = "id_before" if descending else "id_after"
        more = {bound: str(page[-1].id), "per_page": str(per_page)}
        answer.put("Link", _link(call, "next", more, drop=("page",)))
    return answer


def _write_cursor(number: int) -> str:
    text = json.dumps({"id": str(number), "_kd": "n"}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(text: str | None) -> int | None:
    if not text:
        return None
    try:
        return int(json.loads(base64.urlsafe_b64decode(text))["id"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise error(400, "cursor is invalid") from None


def _link(call: Call, rel: str, more: dict[str, str], *, drop: tuple[str, ...] = ()) -> str:
    params: Params = [(key, decode(value)) for key, value in call.path_params.items()]
    params += [(key, value) for key, value in call.request.query if key not in more and key not in drop]
    params += list(more.items())
    # Rails sorts the keys (Hash#to_query).
    query = urlencode(sorted(params, key=lambda pair: pair[0]), quote_via=quote, safe="")
    host = call.settings.link_host or base_url(call)
    path = call.request.raw_path.partition("?")[0]
    return f'<{host}{path}?{query}>; rel="{rel}"'
