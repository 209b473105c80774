"""Redirects: few, upwards only, to real hosts elsewhere, and byte for byte as written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._protocol.redirects import FOLLOWED, MAX_HOPS, RefusedRedirect, is_forbidden_host, next_hop

API = "https://gitlab.example.com/api/v4/projects/1/jobs/8/artifacts?x=1"
SIGNED = (
    "https://store.example.net/b%2Fa/%7Euser/it%27s.zip?X-Amz-Signature=ab%2Fcd%3D&X-Amz-Date=20260101T000000Z"
    "&response-content-disposition=attachment%3B%20filename%3D%22a%20b.zip%22&e="
)


def follow(location: str | None, *, current: str = API, hops: int = 0, api_is_local: bool = False) -> str:
    """The next hop."""
    return next_hop(current, location, hops=hops, api_is_local=api_is_local)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (SIGNED, SIGNED),
        (f" {SIGNED} ", SIGNED),
        (
            "https://gitlab.example.com/api/v4/projects/2/jobs",
            "https://gitlab.example.com/api/v4/projects/2/jobs",
        ),
        ("/api/v4/projects/2?a=%2F", "https://gitlab.example.com/api/v4/projects/2?a=%2F"),
        ("/a/http://x/y", "https://gitlab.example.com/a/http://x/y"),
        ("trace", "https://gitlab.example.com/api/v4/projects/1/jobs/8/trace"),
        ("//store.example.net/x", "https://store.example.net/x"),
        ("https://store.example.net/x#fragment", "https://store.example.net/x"),
        ("https://user:pass@store.example.net/x?a=%2F", "https://store.example.net/x?a=%2F"),
        ("https://gitlab.example.com@store.example.net/x", "https://store.example.net/x"),
        ("https://store.example.net:8443/x", "https://store.example.net:8443/x"),
        ("https://10.0.0.5:9000/minio", "https://10.0.0.5:9000/minio"),
        ("https://[fd00::5]/minio", "https://[fd00::5]/minio"),
        ("https://store.example.net/!a~b", "https://store.example.net/!a~b"),
    ],
)
def test_followed(location: str, target: str) -> None:
    """A good redirect leads to exactly what was written, without user name and fragment."""
    assert follow(location) == target


@pytest.mark.parametrize(
    "location",
    [
        "https://[user:canary@x]/",
        "https://user:canary@[::zz]/",
        "//canary\N{ACCOUNT OF}.example/",
        "canary://x",
    ],
)
def test_a_refusal_does_not_repeat_the_address(location: str) -> None:
    """An address that cannot be read may hold a password anywhere."""
    with pytest.raises(RefusedRedirect) as caught:
        follow(location)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "says"),
    [
        (None, "without a Location"),
        ("", "without a Location"),
        ("   ", "without a Location"),
        ("http://gitlab.example.com/x", "down to plain http"),
        ("HTTP://gitlab.example.com/x", "down to plain http"),
        ("ftp://store.example.net/x", "no web address"),
        ("file:///etc/passwd", "no web address"),
        ("gopher://store.example.net/", "no web address"),
        ("https://", "no web address"),
        ("https:///x", "no web address"),
        ("https://store.example.net:99999/", "no web address"),
        ("https://store.example.net:0/", "no web address"),
        ("https://store.example.net:port/", "no web address"),
        ("https://[::1/", "no web address"),
        ("//[::1/", "no web address"),
        ("//[x]/", "no web address"),
        ("https://store.example.net/a b", "spaces or control"),
        ("https://store.example.net/a\tb", "spaces or control"),
        ("https://store.example.net/\x7f", "spaces or control"),
        ("https://localhost/x", "local address"),
        ("https://LOCALHOST./x", "local address"),
        ("https://a.localhost/x", "local address"),
        ("https://127.0.0.1/x", "local address"),
        ("https://127.1/x", "local address"),
        ("https://0x7f000001/x", "local address"),
        ("https://2130706433/x", "local address"),
        ("https://0.0.0.0/x", "local address"),
        ("https://[::1]/x", "local address"),
        ("https://[::]/x", "local address"),
        ("https://[::ffff:127.0.0.1]/x", "local address"),
        ("https://[fe80::1%25eth0]/x", "local address"),
        ("https://169.254.169.254/latest/meta-data", "local address"),
        ("https://224.0.0.1/x", "local address"),
        ("https://user@127.0.0.1/x", "local address"),
        ("https://127。0。0。1/x", "plain ASCII"),
        ("https://①27.0.0.1/x", "plain ASCII"),
        ("https://gitlab.example.com\\@evil.example/x", "plain ASCII"),
    ],
)
def test_refused(location: str | None, says: str) -> None:
    """What leads down, nowhere, or to this machine is refused, and the reason is said."""
    with pytest.raises(RefusedRedirect, match=says):
        follow(location)


def test_no_downgrade_behind_a_written_scheme() -> None:
    """A hop that was spelled HTTPS:// was https all the same: from there, too, nothing leads down."""
    hop = follow("HTTPS://store.example.net/x")
    with pytest.raises(RefusedRedirect, match="down to plain http"):
        follow("http://store.example.net/x", current=hop)


def test_http_stays_allowed_where_it_began() -> None:
    """An installation on plain http may redirect to http and up to https."""
    current = "http://gitlab.example.com/api/v4/x"
    assert follow("http://store.example.net/x", current=current) == "http://store.example.net/x"
    assert follow("https://store.example.net/x", current=current) == "https://store.example.net/x"


def test_local_is_fine_beside_a_local_api() -> None:
    """An API on this machine may send us to an object store on this machine, still not downwards."""
    assert follow("https://127.0.0.1:9000/x", api_is_local=True) == "https://127.0.0.1:9000/x"
    with pytest.raises(RefusedRedirect, match="down to plain http"):
        follow("http://127.0.0.1:9000/x", api_is_local=True)


def test_loops_end() -> None:
    """Five hops are followed and the sixth is not, wherever they lead."""
    url = API
    for hops in range(MAX_HOPS):
        url = follow("/round", current=url, hops=hops)
    assert url == "https://gitlab.example.com/round"
    with pytest.raises(RefusedRedirect, match="more than 5"):
        follow("/round", current=url, hops=MAX_HOPS)


@pytest.mark.parametrize(
    "host", ["gitlab.example.com", "10.0.0.1", "192.168.1.1", "fd00::1", "notlocalhost", "1e100.net"]
)
def test_hosts_that_may_be_named(host: str) -> None:
    """Private networks and public names are no local addresses: object stores live there."""
    assert not is_forbidden_host(host)


@pytest.mark.parametrize("host", ["fe80::1%eth0", "fe80::1%", "::1%a%b", "::ffff:127.0.0.1%1"])
def test_no_scope_hides_a_local_address(host: str) -> None:
    """Whatever stands behind the percent sign, it is an address of this machine or its link."""
    assert is_forbidden_host(host)


def test_which_statuses_are_redirects() -> None:
    """Those that name one other place: no choices, no "not modified", no proxy to use."""
    assert [status for status in range(300, 400) if status in FOLLOWED] == [301, 302, 303, 307, 308]


@given(st.text(max_size=60))
def test_any_location_is_followed_or_refused(location: str) -> None:
    """No Location makes the decision fail; what is followed is https with a host and no user name."""
    try:
        target = follow(location)
    except RefusedRedirect:
        return
    assert target.lower().startswith("https://")
    assert "@" not in target.split("/")[2]
