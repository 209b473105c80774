"""Which answers may be a single file, and which files the listing hides."""

from __future__ import annotations

import pytest

from asyncjobs._manifest import is_shadowed, why_no_member

HTML = "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("headers", "from_api", "good"),
    [
        ({"content-disposition": 'attachment; filename="a.html"', "content-type": HTML}, True, True),
        ({"content-disposition": "Attachment", "content-type": "application/json"}, True, True),
        ({"content-disposition": 'attachment;filename="a"'}, False, True),
        ({"content-disposition": "inline", "content-type": HTML}, True, False),
        ({"content-disposition": 'inline; filename="attachment"'}, True, False),
        ({"content-type": HTML}, True, False),
        ({"content-type": "application/json"}, True, False),
        ({"content-type": "application/octet-stream"}, True, False),
        ({}, True, False),
        ({"content-type": "application/octet-stream"}, False, True),
        ({}, False, True),
        ({"content-type": "Text/HTML"}, False, False),
        ({"content-type": HTML}, False, False),
        ({"content-type": "application/xhtml+xml", "content-disposition": "inline"}, False, False),
    ],
)
def test_only_an_attachment_is_the_file(headers: dict[str, str], from_api: bool, good: bool) -> None:
    """The API names the file it sends; of another origin only a page is certainly not the file."""
    assert (why_no_member(headers, from_api=from_api) is None) == good


def test_what_came_instead_is_named_safely() -> None:
    """By its type, which cannot drive a terminal or flood it, or by the lack of one."""
    assert "but text/html" in (why_no_member({"content-type": HTML}, from_api=True) or "")
    assert "without a type" in (why_no_member({}, from_api=True) or "")
    odd = why_no_member({"content-type": "x/\x1b[31m" + "y" * 500}, from_api=True)
    assert odd is not None
    assert odd.isprintable()
    assert len(odd) < 150


@pytest.mark.parametrize(
    ("member", "hidden"),
    [
        ("tree", True),
        ("tree.json", True),
        ("tree.txt", True),
        ("trees", False),
        ("tree/a", False),
        ("a/tree", False),
        ("Tree", False),
        (".tree", False),
    ],
)
def test_the_listing_hides_files_of_its_own_name(member: str, hidden: bool) -> None:
    """At the root alone, with and without an extension."""
    assert is_shadowed(member) == hidden
