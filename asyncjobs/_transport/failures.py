"""aiohttp's errors, told apart and turned into ours; their own text and objects never go further.

The repr of an aiohttp error holds the request's headers, token included, so only chosen scalars
are taken from it. What looks alike there is told apart here: a protocol error arrives as
"400", a certificate error as a socket error, a full descriptor table as a connect error.
"""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp

from asyncjobs._errors import (
    CertificateError,
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


class ForbiddenAddress(OSError):  # noqa: N818 -- passes through aiohttp, which wraps OSError; never leaves this room
    """A name from a redirect resolves to an address we do not go to."""


class Unanswered(aiohttp.ClientError):
    """A new connection broke before an answer came; only passes through aiohttp, which must not resend."""

    def __init__(self, error: aiohttp.ClientOSError | aiohttp.ServerDisconnectedError) -> None:
        super().__init__()
        self.error = error


def translate(error: BaseException, *, method: str, url: str) -> RequestError:
    """Our error for one of aiohttp's or the socket's: the same meaning, no more text than is safe.

    Args:
        error: What was caught.
        method: Upper case.
        url: Already safe to print.
    """
    cls, reason = _meaning(error.error if isinstance(error, Unanswered) else error)
    return cls(reason, method=method, url=url)


def _meaning(error: BaseException) -> tuple[type[RequestError], str]:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return (
            CertificateError,
            f"the certificate was refused: {_certificate(error)}; pass its authority as ca_file",
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _dns(error)
    if isinstance(error, aiohttp.ClientSSLError):
        return ConnectError, f"TLS could not be set up: {_os_text(error)} (is this port really https?)"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectTimeout, "no connection in time"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError, f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return ConnectError, f"the proxy cannot be reached: {_os_text(error)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _connect(error)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return RequestTimeout, "the server fell silent"
    if isinstance(error, TimeoutError):
        return RequestTimeout, "no complete answer in time"
    if isinstance(error, aiohttp.ClientPayloadError):
        return TruncatedBodyError, "the body ended before it was whole"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return ProtocolError, "the connection was closed before an answer came"
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return ProtocolError, "the answer was not valid HTTP"
    if isinstance(error, aiohttp.ClientConnectionResetError | ConnectionError | aiohttp.ClientOSError):
        return ProtocolError, f"the connection broke: {_os_text(error)}"
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return TooManyFilesError, "no file descriptor is left"
    return ProtocolError, f"the exchange failed ({type(error).__name__})"


def _connect(error: aiohttp.ClientConnectorError) -> tuple[type[RequestError], str]:
    if error.os_error.errno in {errno.EMFILE, errno.ENFILE}:
        return (
            TooManyFilesError,
            "no file descriptor is left: do fewer things at once, or raise ulimit -n",
        )
    return ConnectError, f"the server cannot be reached: {_os_text(error)}"


def _dns(error: aiohttp.ClientConnectorDNSError) -> tuple[type[RequestError], str]:
    if error.os_error.errno in {errno.EMFILE, errno.ENFILE}:
        return _connect(error)
    if isinstance(error.os_error, ForbiddenAddress):
        return ForbiddenAddressError, "a redirect to a name with a local address"
    return HostNotFoundError, "the host name is not known: check the URL and the network"


def _os_text(error: BaseException) -> str:
    """The system's words for an errno, which hold nothing of the request."""
    inner = getattr(error, "os_error", error)
    number = getattr(inner, "errno", None)
    if isinstance(inner, ssl.SSLError):
        return (getattr(inner, "reason", None) or "TLS error").replace("_", " ").lower()
    strerror = getattr(inner, "strerror", None)
    if isinstance(number, int) and number in errno.errorcode and strerror:
        # asyncio writes "Connect call failed (address)" there; the plain text is shorter and safe.
        return os.strerror(number).lower()
    return "connection reset" if isinstance(inner, ConnectionError) else "no further details"


def _certificate(error: BaseException) -> str:
    inner = getattr(error, "certificate_error", error)
    return str(getattr(inner, "verify_message", None) or "verification failed")
