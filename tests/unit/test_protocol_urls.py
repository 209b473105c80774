"""Addresses: where the API is, what an origin is, and URLs that may be shown to anybody."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._errors import ConfigurationError
from asyncjobs._protocol.urls import (
    Origin,
    own_address,
    parse_api_root,
    parse_origin,
    printable,
    safe_url,
    segment,
)

CANARY = "CANARY0123456789"


@pytest.mark.parametrize(
    ("url", "endpoint", "web"),
    [
        ("https://gitlab.example.com", "https://gitlab.example.com/api/v4/x", "https://gitlab.example.com"),
        ("https://gitlab.example.com/", "https://gitlab.example.com/api/v4/x", "https://gitlab.example.com"),
        (" https://GitLab.Example.com ", "https://gitlab.example.com/api/v4/x", "https://gitlab.example.com"),
        (
            "https://gitlab.example.com/api/v4",
            "https://gitlab.example.com/api/v4/x",
            "https://gitlab.example.com",
        ),
        (
            "https://gitlab.example.com/api/v4/",
            "https://gitlab.example.com/api/v4/x",
            "https://gitlab.example.com",
        ),
        (
            "https://gitlab.example.com:443",
            "https://gitlab.example.com/api/v4/x",
            "https://gitlab.example.com",
        ),
        (
            "http://localhost:8080/gitlab",
            "http://localhost:8080/gitlab/api/v4/x",
            "http://localhost:8080/gitlab",
        ),
        ("https://[::1]:8443", "https://[::1]:8443/api/v4/x", "https://[::1]:8443"),
        ("https://a/X", "https://a/X/api/v4/x", "https://a/X"),
    ],
)
def test_api_root(url: str, endpoint: str, web: str) -> None:
    """The address of a GitLab is taken with or without `/api/v4`, relative root and default port."""
    root = parse_api_root(url)
    assert root.url("/x") == endpoint
    assert root.web_url == web


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "scheme"),
        ("gitlab.example.com", "did you mean https://gitlab.example.com"),
        ("ftp://gitlab.example.com", "http or https"),
        ("https://", "no host"),
        ("https://gitlab.example.com:0", "port"),
        ("https://gitlab.example.com:99999", "ort"),
        ("https://[::1", "not the URL"),
        (f"https://user:{CANARY}@gitlab.example.com", "pass a token instead"),
        (f"https://gitlab.example.com?private_token={CANARY}", "before any"),
        (f"https://gitlab.example.com#{CANARY}", "before any"),
        ("https://gitlab.example.com/../admin", "odd path"),
        ("https://gitlab.example.com//admin", "odd path"),
        ("https://gitlab.example.com/a/./b/", "odd path"),
        ("https://gitlab.example.com/api/v3", "leave /api/v3 away"),
    ],
)
def test_wrong_urls(url: str, says: str) -> None:
    """A URL that cannot be a GitLab's is refused with the reason, without the password in it."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse_api_root(url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("https://a", "https://a:443", True),
        ("https://A/x", "https://a/y?z", True),
        ("http://a", "http://a:80", True),
        ("http://a", "https://a", False),
        ("https://a", "https://a:444", False),
        ("https://a", "https://a.evil.com", False),
        ("https://a", "https://a@evil.com", False),
        ("https://a", "https://a.", False),
    ],
)
def test_origins(left: str, right: str, same: bool) -> None:
    """An origin is scheme, host and port, nothing less: a credential belongs to exactly one."""
    assert (parse_origin(urlsplit(left)) == parse_origin(urlsplit(right))) is same


def test_origin_text() -> None:
    """An origin prints as people write it."""
    assert str(Origin("https", "a", 443)) == "https://a"
    assert str(Origin("http", "::1", 8080)) == "http://[::1]:8080"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a/b?page=2&scope[]=failed", "https://a/b?page=2&scope[]=failed"),
        ("https://u:p@a:8080/b", "https://a:8080/b"),
        ("https://store/b?X-Amz-Signature=abc&page=1", "https://store/b?X-Amz-Signature=...&page=1"),
        ("https://a/b#frag", "https://a/b"),
        ("https://a/b?glpat-secret", "https://a/b?..."),
        ("https://a/b?page=1;private_token=x", "https://a/b?page=..."),
        ("https://a/b?page=1%26private_token%3Dx", "https://a/b?page=..."),
        ("https://a/b?page=1%26glpat-x", "https://a/b?page=..."),
        ("https://a/b?page=1%3Bglpat-x", "https://a/b?page=..."),
        ("https://a/b?page=glpat=x", "https://a/b?page=..."),
        ("https:///b?page=1", "(not a URL)"),
        ("?page=1", "?page=1"),
        ("https://a/\x1b[2J", "https://a/ [2J"),
        ("/relative?job=a", "/relative?job=a"),
        ("user:password@host", "(not a URL)"),
        ("https://[::1/x", "(not a URL)"),
        ("https://[::1]:80/x", "https://[::1]:80/x"),
    ],
)
def test_safe_urls(url: str, shown: str) -> None:
    """What a URL says about the place is shown; userinfo, fragment and unknown values are not."""
    assert safe_url(url) == shown


ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@given(
    before=ANY,
    after=ANY,
    place=st.sampled_from(["user", "password", "value", "lone", "fragment"]),
    name=st.text(alphabet="abcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=8),
)
def test_no_secret_in_a_shown_url(before: str, after: str, place: str, name: str) -> None:
    """A secret in userinfo, in an unknown parameter, alone in the query or in the fragment is not shown."""
    secret = quote(before, safe="") + CANARY + quote(after, safe="")
    url = {
        "user": f"https://{secret}:x@host/path?page=1",
        "password": f"https://u:{secret}@host/path?page=1",
        "value": f"https://host/path?page=1&x{name}={secret}&sort=asc",
        "lone": f"https://host/path?{secret}",
        "fragment": f"https://host/path?page=1#{secret}",
    }[place]
    shown = safe_url(url)
    assert CANARY not in shown
    assert "host/path" in shown


@given(st.text())
def test_any_url_can_be_shown(text: str) -> None:
    """No text makes `safe_url` fail or drive a terminal."""
    shown = safe_url(text)
    assert shown.isprintable()
    assert len(shown) <= 500


@given(st.text(), st.integers(3, 300))
def test_printable(text: str, limit: int) -> None:
    """The result is one line of printable characters within the limit, and plain text is left alone."""
    shown = printable(text, limit=limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    plain = " ".join("".join(c for c in text if c.isalnum()).split())
    if len(plain) <= limit:
        assert printable(plain, limit=limit) == plain


@pytest.mark.parametrize(
    "text", ["\x1b[31mred\x1b[0m", "a\r\nb", "a\u202eb", "a\x9b2Jb", "a\x00b", "a\u2028b"]
)
def test_printable_drops_what_drives_a_terminal(text: str) -> None:
    """Escapes, line ends, bidi overrides and C1 controls become spaces."""
    assert not set("\x1b\r\n\u202e\x9b\x00\u2028") & set(printable(text))


def test_printable_cuts_no_more_than_it_must() -> None:
    """What fits is whole once it is clean; what does not ends in three dots within the limit."""
    assert printable("a\tb", limit=3) == printable("a  b") == "a b"
    assert printable("abcd", limit=4) == "abcd"
    assert printable("abcde", limit=4) == "a..."
    assert printable("a" * 9 + "\t" * 9, limit=9) == "a" * 9


@pytest.mark.parametrize(
    ("root", "address", "own"),
    [
        ("https://a", "https://a/g/p/-/jobs/8", "https://a/g/p/-/jobs/8"),
        ("https://a", " https://A:443/g/p?x=1#L5 ", "https://A:443/g/p"),
        ("https://a/gitlab", "https://a/gitlab/g/p", "https://a/g/p"),
        ("https://a/gitlab", "https://a/gitlab", "https://a"),
        ("https://a/gitlab", "https://a/gitlab/gitlab/p", "https://a/gitlab/p"),
    ],
)
def test_addresses_of_this_installation(root: str, address: str, own: str) -> None:
    """The path of an address names a target once the relative root is off it."""
    assert own_address(parse_api_root(root), address) == own


@pytest.mark.parametrize(
    ("root", "address"),
    [
        ("https://a", "https://b/g/p"),
        ("https://a", "http://a/g/p"),
        ("https://a", "https://a:8443/g/p"),
        ("https://a", "ftp://a/g/p"),
        ("https://a", "https://a@evil.example/g/p"),
        ("https://a/gitlab", "https://a/g/p"),
        ("https://a/gitlab", "https://a/gitlab2/g/p"),
    ],
)
def test_addresses_of_others(root: str, address: str) -> None:
    """An address of another host, scheme, port or relative root names nothing here."""
    with pytest.raises(ValueError, match="not an address of https://a"):
        own_address(parse_api_root(root), address)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(1, "1"), ("7", "7"), ("g/a", "g%2Fa"), ("a..b", "a..b"), ("ü?#%", "%C3%BC%3F%23%25"), ("~a", "~a")],
)
def test_a_name_is_one_segment(value: int | str, encoded: str) -> None:
    """Whatever a project or ref is called, it stays between two slashes of the path."""
    assert segment(value, what="project") == encoded


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, TypeError),
        (True, TypeError),
        (1.5, TypeError),
        (0, ValueError),
        (-1, ValueError),
        ("", ValueError),
        (".", ValueError),
        ("..", ValueError),
        ("g/../a", ValueError),
        ("g//a", ValueError),
        ("/g", ValueError),
    ],
)
def test_what_names_nothing_is_refused(value: object, error: type[Exception]) -> None:
    """No request is made for a project or job that cannot be one."""
    with pytest.raises(error, match="project"):
        segment(value, what="project")  # type: ignore[arg-type]  # what a caller without types may pass
