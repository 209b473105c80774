"""Paging: only the position is taken from a server, and no listing runs in circles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._protocol.paging import PageGuard, PagingError, Seen, link_targets, next_position, page_query

NEXT = (
    '<https://gitlab.example.com/api/v4/projects/1/jobs?id=1&page=1&per_page=20>; rel="prev",'
    " <https://gitlab.example.com/api/v4/projects/1/jobs?id=1&page=3&per_page=20&scope%5B%5D=running>;"
    ' rel="next", <https://gitlab.example.com/api/v4/projects/1/jobs?id=1&page=1&per_page=20>; rel="first"'
)


@pytest.mark.parametrize(
    ("link", "position"),
    [
        (NEXT, (("page", "3"),)),
        ('<https://evil.example/?page=3&private_token=x>; rel="next"', (("page", "3"),)),
        ("</api/v4/x?page=3>;rel=next", (("page", "3"),)),
        ('<?page=3>; title="a, b; c"; rel="last next"', (("page", "3"),)),
        ("<?page=3>; REL=next", (("page", "3"),)),
        ('<?cursor=eyJpZCI6IjQyIn0%3D>; rel="next"', (("cursor", "eyJpZCI6IjQyIn0="),)),
        ('<?page=1&cursor=abc>; rel="next"', (("cursor", "abc"),)),
        ('<?id_after=42&per_page=100>; rel="next"', (("id_after", "42"),)),
        ('<?id_before=42>; rel="next"', (("id_before", "42"),)),
        ('<?id_after=42&page=1>; rel="next"', (("page", "1"), ("id_after", "42"))),
        ('<?page=1>; rel="prev"', ()),
        ("", ()),
        ("garbage", ()),
        ("<?page=2>", ()),
        (",,;;<>", ()),
    ],
)
def test_the_next_link(link: str, position: tuple[tuple[str, str], ...]) -> None:
    """Page or cursor is read from the link; its host, path and every other parameter are not."""
    assert next_position({"link": link}) == position


@pytest.mark.parametrize(
    "link", ['<https://gitlab.example.com/x>; rel="next"', '<?page=>; rel="next"', '<//[>; rel="next"']
)
def test_a_next_link_without_a_position(link: str) -> None:
    """A next page that cannot be found is an error: the listing must not end as if it were whole."""
    with pytest.raises(PagingError, match="neither a page nor a cursor"):
        next_position({"link": link})


@pytest.mark.parametrize(
    "link", ['<?page=2; rel="next"', "?page=2; rel=next", '<a>; rel="first", ?page=2>; rel="next"']
)
def test_a_malformed_next_link(link: str) -> None:
    """A next link that cannot be read is an error as well, not the last page."""
    with pytest.raises(PagingError, match="malformed"):
        next_position({"link": link})


@pytest.mark.parametrize(
    ("value", "position"),
    [("3", (("page", "3"),)), (" 3 ", (("page", "3"),)), ("", ()), ("x", ()), ("²", ()), ("-1", ())],
)
def test_x_next_page(value: str, position: tuple[tuple[str, str], ...]) -> None:
    """Without a Link the header `X-Next-Page` counts; empty, as GitLab sends it, means the end."""
    assert next_position({"x-next-page": value}) == position


def test_the_link_wins() -> None:
    """Where both are sent, the link counts."""
    assert next_position({"link": "<?cursor=a>; rel=next", "x-next-page": "7"}) == (("cursor", "a"),)


def test_page_query_keeps_what_was_asked() -> None:
    """Every page is asked with the first query; only the position changes."""
    query = (("per_page", "100"), ("scope[]", "failed"), ("scope[]", "running"), ("page", "1"))
    assert page_query(query, (("page", "2"),)) == (*query[:3], ("page", "2"))
    assert page_query(query, (("cursor", "a"),)) == (*query[:3], ("cursor", "a"))


@given(st.text())
def test_any_link_header_can_be_read(header: str) -> None:
    """No header makes the reader fail in another way than the one that is handled."""
    link_targets(header)
    try:
        position = next_position({"link": header})
    except PagingError:
        return
    assert len(position) <= 3


def test_the_same_page_twice() -> None:
    """A server that names one next page twice is stopped, not followed for ever."""
    guard = PageGuard()
    guard.advance((("page", "2"),))
    guard.advance((("page", "3"),))
    with pytest.raises(PagingError, match="twice"):
        guard.advance((("page", "2"),))


def test_a_circle_of_fifty_pages_is_noticed() -> None:
    """A server that goes round need not come back at once."""
    guard = PageGuard()
    for page in range(50):
        guard.advance((("cursor", str(page)),))
    with pytest.raises(PagingError, match="twice"):
        guard.advance((("cursor", "0"),))


def test_a_keyset_listing_is_not_ended_by_its_length() -> None:
    """GitLab bounds numbered pages alone: with cursors a listing may have a million."""
    guard = PageGuard()
    for page in range(100_000):
        guard.advance((("cursor", str(page)),))


def test_a_listing_has_an_end() -> None:
    """After 10,000 numbered pages it is over, whatever the server says."""
    guard = PageGuard()
    for page in range(2, 10_002):
        guard.advance((("page", str(page)),))
    with pytest.raises(PagingError, match="10000 pages"):
        guard.advance((("page", "10002"),))


def test_shifted_pages() -> None:
    """An item that slid onto the next page while we were reading is given once."""
    seen = Seen()
    assert seen.new([5, 4, 3]) == [True, True, True]
    assert seen.new([3, 2, 1]) == [False, True, True]
    assert seen.new([7, 7]) == [True, False]
    assert seen.new([]) == []


@given(st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=40))
def test_every_item_once(pages: list[list[int]]) -> None:
    """Within the span it remembers, each item is new exactly once, and none is dropped."""
    seen = Seen()
    given_out = [key for page in pages for key, new in zip(page, seen.new(page), strict=True) if new]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) == {key for page in pages for key in page}


def test_what_shifts_along_stays_known() -> None:
    """An item that keeps sliding onto the next page is given once, however many pages that takes."""
    seen = Seen()
    given_out = [seen.new([0, page])[0] for page in range(1, 200)]
    assert given_out == [True] + [False] * 198
    assert kept(seen) <= 52, "and it does not keep the others alive"


@pytest.mark.parametrize("period", [24, 25, 26, 49, 50, 51, 100])
def test_seen_is_bounded(period: int) -> None:
    """However long a listing and however it repeats itself, at most 50 pages of keys are kept."""
    seen = Seen()
    for page in range(1000):
        seen.new(range((page % period) * 100, (page % period) * 100 + 100))
        assert kept(seen) <= 5000


def kept(seen: Seen) -> int:
    """How many keys it holds."""
    return len(seen._recent) + len(seen._older)


def test_a_shift_by_25_pages_is_noticed() -> None:
    """Wherever in its memory's cycle it happens, a key of 25 pages ago is still known."""
    for before in range(60):
        seen = Seen()
        for page in range(before):
            seen.new([("earlier", page)])
        assert seen.new(["shifted"]) == [True]
        for page in range(24):
            seen.new([("later", page)])
        assert seen.new(["shifted"]) == [False]
