"""Which redirects are followed: GET only, five hops, http or https, never down to plain HTTP.

Credentials are not decided here: they are joined per hop, and only where the origin is the
configured one. RFC 9110 section 15.4; GitLab redirects archives to object storage and moved
projects to their new id.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urljoin, urlsplit, urlunsplit

from asyncjobs._protocol.urls import parse_origin

MAX_HOPS = 5
FOLLOWED = frozenset({301, 302, 303, 307, 308})

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


class RefusedRedirect(ValueError):  # noqa: N818 -- a decision, turned into RedirectError with its facts above
    """This redirect is not followed; the message says why."""


def next_hop(current: str, location: str | None, *, hops: int, api_is_local: bool) -> str:
    """The URL to ask next, exactly as the server wrote it where that is absolute.

    Args:
        current: The URL that answered with the redirect.
        location: Its `Location` header.
        hops: Redirects followed so far.
        api_is_local: The API itself is on a loopback or link-local address, so others may be.

    Raises:
        RefusedRedirect: The message says why.
    """
    if not location or not location.strip():
        raise RefusedRedirect("a redirect without a Location")
    if hops >= MAX_HOPS:
        raise RefusedRedirect(f"more than {MAX_HOPS} redirects")
    location = location.strip()
    # A presigned query must stay byte-identical, so an absolute URL is not rebuilt.
    try:
        target = location if _ABSOLUTE.match(location) else urljoin(current, location)
        parts = urlsplit(target)
        origin = parse_origin(parts)
    except ValueError:
        # The error's own words may quote the address, and with it a password.
        raise RefusedRedirect("a redirect to something that is no web address") from None
    if any(ord(c) <= 0x20 or ord(c) == 0x7F for c in target):
        raise RefusedRedirect("a redirect to an address with spaces or control characters")
    if not origin.host.isascii() or "\\" in parts.netloc:
        # Whoever resolves it may read a wide 1 as 1, or a backslash as a slash: nobody knows whose it is.
        raise RefusedRedirect("a redirect to a host name that is not plain ASCII")
    # Not `startswith`: a server may have written HTTPS:// one hop before.
    if parts.scheme == "http" and urlsplit(current).scheme == "https":
        raise RefusedRedirect("a redirect from https down to plain http")
    if parts.username is not None or parts.password is not None:
        # A user name in a redirect would become an Authorization header: dropped, not followed with it.
        target = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if not api_is_local and is_forbidden_host(origin.host):
        raise RefusedRedirect(f"a redirect to the local address {origin.host}")
    return target.split("#", 1)[0]


def is_forbidden_host(host: str) -> bool:
    """Whether *host* names this machine or its link: nothing a server has a reason to send us to."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return is_local_address(host)
    except ValueError:
        pass
    try:
        # The system's resolver (and a proxy's) also reads 127.1, 0x7f000001 and 2130706433.
        return is_local_address(socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, UnicodeEncodeError):
        return False


def is_local_address(text: str) -> bool:
    """Loopback, link-local (cloud metadata lives there), multicast or unspecified.

    Raises:
        ValueError: Not an IP address.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
