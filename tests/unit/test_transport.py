"""The wire's own decisions: which proxy, which error, which address; no socket is opened here."""

from __future__ import annotations

import errno
import ssl
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from asyncjobs._errors import (
    CertificateError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    ForbiddenAddressError,
    HostNotFoundError,
    ProtocolError,
    RequestError,
    RequestTimeout,
    TooManyFilesError,
    TruncatedBodyError,
)
from asyncjobs._transport.failures import ForbiddenAddress, translate
from asyncjobs._transport.network import Proxies, parse_proxy, tls_context

CANARY = "CANARY0123456789"

KEY = ConnectionKey("gitlab.example.com", 443, True, True, None, None, None)
INFO = aiohttp.RequestInfo(
    URL("https://gitlab.example.com"),
    "GET",
    CIMultiDictProxy(CIMultiDict({"PRIVATE-TOKEN": CANARY})),
    URL("https://gitlab.example.com"),
)


def connector(number: int) -> aiohttp.ClientConnectorError:
    """A connect error with an errno, as asyncio words it."""
    return aiohttp.ClientConnectorError(
        KEY, OSError(number, f"Connect call failed ('10.0.0.1', 443) {CANARY}")
    )


def not_tls() -> ssl.SSLError:
    """What OpenSSL says of a port that speaks plain HTTP."""
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


FAILURES: list[tuple[BaseException, type[RequestError], str]] = [
    (
        aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, "x")),
        CertificateError,
        "pass its authority as ca_file",
    ),
    (
        aiohttp.ClientConnectorSSLError(KEY, not_tls()),
        ConnectError,
        "TLS could not be set up: wrong version number",
    ),
    (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "x")), HostNotFoundError, "name is not known"),
    (aiohttp.ClientConnectorDNSError(KEY, ForbiddenAddress("x")), ForbiddenAddressError, "local address"),
    (aiohttp.ClientConnectorDNSError(KEY, OSError(errno.EMFILE, "x")), TooManyFilesError, "ulimit"),
    (connector(errno.ECONNREFUSED), ConnectError, "connection refused"),
    (connector(errno.ENETUNREACH), ConnectError, "network is unreachable"),
    (connector(errno.EMFILE), TooManyFilesError, "fewer things at once"),
    (connector(errno.ENFILE), TooManyFilesError, "fewer things at once"),
    (aiohttp.ConnectionTimeoutError(), ConnectTimeout, "no connection in time"),
    (aiohttp.SocketTimeoutError(), RequestTimeout, "fell silent"),
    (TimeoutError(), RequestTimeout, "in time"),
    (aiohttp.ClientPayloadError("x"), TruncatedBodyError, "before it was whole"),
    (aiohttp.ServerDisconnectedError(), ProtocolError, "closed before an answer"),
    (aiohttp.ClientResponseError(INFO, (), status=400, message=CANARY), ProtocolError, "not valid HTTP"),
    (aiohttp.ClientHttpProxyError(INFO, (), status=407, message=CANARY), ConnectError, "proxy answered 407"),
    (
        aiohttp.ClientProxyConnectionError(KEY, OSError(errno.ECONNREFUSED, CANARY)),
        ConnectError,
        "proxy cannot be reached",
    ),
    (ConnectionResetError(errno.ECONNRESET, CANARY), ProtocolError, "connection reset"),
    (aiohttp.ClientOSError(errno.EPIPE, CANARY), ProtocolError, "broken pipe"),
    (OSError(errno.EMFILE, CANARY), TooManyFilesError, "descriptor"),
    (aiohttp.ClientError(CANARY), ProtocolError, "ClientError"),
]


@pytest.mark.parametrize(
    ("error", "cls", "says"), FAILURES, ids=[f"{type(e).__name__}-{c.__name__}" for e, c, _ in FAILURES]
)
def test_what_failed(error: BaseException, cls: type[RequestError], says: str) -> None:
    """Each failure of library or socket is our error of the right kind, without a word of the request."""
    ours = translate(error, method="GET", url="https://gitlab.example.com/x")
    assert type(ours) is cls
    assert says in str(ours)
    assert CANARY not in str(ours) + repr(ours) + repr(vars(ours))
    assert (ours.__cause__, ours.__context__) == (None, None)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("proxy:3128", "http://proxy:3128"),
        ("https://proxy/", "https://proxy"),
        (f"http://user:{CANARY}@proxy:3128/x?y#z", "http://proxy:3128"),
        (f"http://user:p%40ss{CANARY}@[::1]:3128", "http://[::1]:3128"),
    ],
)
def test_a_proxy_without_its_password(url: str, bare: str) -> None:
    """The address of a proxy is kept apart from its password, which no repr shows."""
    proxy = parse_proxy(url)
    assert proxy.url == bare
    assert CANARY not in repr(proxy) + repr(Proxies(fixed=proxy))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "proxy",
        f"user:{CANARY}@proxy",
        f"{CANARY} proxy:80",
        "http://pro xy:3128",
        "http://pro\nxy:3128",
        "socks5://proxy:1080",
        "http://",
        f"http://user:{CANARY}@",
        "http://proxy:0",
        "http://proxy:x",
        "http://proxy:99999",
        "3128",
        3128,
        b"http://proxy:3128",
    ],
)
def test_what_is_no_proxy(url: Any) -> None:
    """What cannot be used as a proxy is refused in one line, and not repeated."""
    with pytest.raises(ConfigurationError, match=r"^the proxy must be an http:// or .*$") as caught:
        parse_proxy(url)
    assert CANARY not in str(caught.value)


ENVIRONMENT = Proxies(
    by_scheme={"https": parse_proxy("http://p:1"), "all": parse_proxy("http://q:1")},
    no_proxy=("localhost", ".internal.example", "10.0.0.1"),
)


@pytest.mark.parametrize(
    ("scheme", "host", "url"),
    [
        ("https", "gitlab.example.com", "http://p:1"),
        ("http", "gitlab.example.com", "http://q:1"),
        ("https", "localhost", None),
        ("https", "internal.example", None),
        ("https", "gitlab.internal.example", None),
        ("https", "notinternal.example", "http://p:1"),
        ("http", "10.0.0.1", None),
        ("http", "110.0.0.1", "http://q:1"),
    ],
)
def test_which_proxy(scheme: str, host: str, url: str | None) -> None:
    """The scheme's own proxy, else the one for all, and none for the hosts excepted, whole labels only."""
    proxy = ENVIRONMENT.for_url(scheme, host)
    assert (None if proxy is None else proxy.url) == url


def test_a_given_proxy_takes_everything() -> None:
    """A proxy passed to the client has no exceptions; `*` excepts everything; without any there is none."""
    fixed = parse_proxy("http://p:1")
    assert Proxies(fixed=fixed, no_proxy=("*",)).for_url("https", "localhost") is fixed
    assert Proxies(by_scheme={"https": fixed}, no_proxy=("*",)).for_url("https", "a") is None
    assert Proxies().for_url("https", "a") is None
    assert ENVIRONMENT.hosts == {"p", "q"}


def test_tls_verifies() -> None:
    """A context always checks certificates and names; a file that is none is said by the option's name."""
    context = tls_context(None, None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    with pytest.raises(ConfigurationError, match="ca_file '/nowhere'"):
        tls_context("/nowhere", None)
    with pytest.raises(ConfigurationError, match="client_cert"):
        tls_context(None, ("/nowhere", "/nowhere.key"))
    with pytest.raises(ConfigurationError, match="not a PEM file"):
        tls_context(__file__, None)


def test_the_system_speaks_for_itself() -> None:
    """The words for an errno are the system's, not the library's, which name addresses."""
    text = str(translate(connector(errno.ECONNREFUSED), method="GET", url="u"))
    assert "10.0.0.1" not in text
