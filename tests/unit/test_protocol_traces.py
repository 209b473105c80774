"""Which answers to a trace request may be a log."""

from __future__ import annotations

import pytest

from asyncjobs._protocol.traces import why_no_log


@pytest.mark.parametrize("status", [200, 206])
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "Text/Plain; charset=utf-8",
        "text/x-log",
        "application/octet-stream",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
        "nonsense",
    ],
)
def test_what_servers_and_stores_call_a_log(status: int, content_type: str | None) -> None:
    """Plain text, bytes, no type and odd types pass: a store repeats what a file was stored with."""
    assert why_no_log(status, content_type, ranged=True) is None


@pytest.mark.parametrize("status", [200, 206])
@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "TEXT/HTML;charset=UTF-8",
        " text/html ; charset=utf-8",
        "application/xhtml+xml",
        "application/json",
        "application/problem+json; x=y",
        "application/vnd.company.error+xml",
        "application/xml",
        "text/xml",
        "text/css",
        "text/javascript",
        "application/pdf",
        "image/png",
        "multipart/byteranges; boundary=x",
    ],
)
def test_what_is_certainly_no_log(status: int, content_type: str) -> None:
    """A page, a document or a picture is refused by name, whatever its case and parameters."""
    why = why_no_log(status, content_type, ranged=True)
    assert why is not None
    assert content_type.partition(";")[0].strip().lower() in why


@pytest.mark.parametrize("status", [204, 304, 416])
def test_answers_without_a_log(status: int) -> None:
    """What carries no log is not judged by its type: the text of a 416 is JSON."""
    assert why_no_log(status, "application/json", ranged=True) is None


def test_a_log_needs_no_range() -> None:
    """The whole of a log is an answer to any request for it."""
    assert why_no_log(200, "text/plain", ranged=False) is None


@pytest.mark.parametrize("status", [206, 416])
def test_parts_nobody_asked_for(status: int) -> None:
    """Without a Range neither a part of a log nor a complaint about one is an answer."""
    assert str(status) in (why_no_log(status, "text/plain", ranged=False) or "")


def test_the_name_of_a_type_is_safe_to_print() -> None:
    """A server cannot drive a terminal, or flood it, with a content type."""
    why = why_no_log(200, "image/\x1b[31m" + "x" * 500, ranged=False)
    assert why is not None
    assert why.isprintable()
    assert len(why) < 150
