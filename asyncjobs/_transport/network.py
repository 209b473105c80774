"""How connections are made: TLS contexts, proxies, and a resolver that keeps redirects off this machine."""

from __future__ import annotations

import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from asyncjobs._errors import ConfigurationError
from asyncjobs._secrets import HeaderValue
from asyncjobs._transport.failures import ForbiddenAddress

ClientCertificate = str | Path | tuple[str | Path, str | Path]
"""A PEM file with certificate and key, or the two files."""


def tls_context(ca_file: str | Path | None, client_cert: ClientCertificate | None) -> ssl.SSLContext:
    """A verifying context: the system's authorities, *ca_file* beside them, and a client certificate.

    The system's stay, because archives come from object stores with public certificates.

    Raises:
        ConfigurationError: A file cannot be read or is not what it should be.
    """
    context = ssl.create_default_context()
    try:
        if ca_file is not None:
            context.load_verify_locations(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"ca_file {str(ca_file)!r} cannot be used: {_why(error)}") from None
    try:
        if isinstance(client_cert, tuple):
            context.load_cert_chain(str(client_cert[0]), str(client_cert[1]))
        elif client_cert is not None:
            context.load_cert_chain(str(client_cert))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"client_cert {client_cert!r} cannot be used: {_why(error)}") from None
    return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return "not a PEM file of the right kind"
    return (error.strerror or type(error).__name__).lower()


@attrs.frozen
class Proxy:
    """A proxy without its password in the URL."""

    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """What the proxy is told about who asks; never for the server behind it."""


def parse_proxy(url: str, *, what: str = "the proxy") -> Proxy:
    """Split user and password off a proxy's URL. `host:port` alone, as curl takes it, is an http proxy.

    Args:
        url: The text of an option or a variable.
        what: Its name, for the message.

    Raises:
        ConfigurationError: Not an http or https URL; the message does not repeat it.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usable = (
            parts.scheme in {"http", "https"}
            and re.fullmatch(r"[\w.:-]+", parts.hostname or "") is not None
            and parts.port != 0
            # Without a scheme any word would pass as the name of a host.
            and ("://" in url or parts.port is not None)
            and url.isprintable()
        )
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise ConfigurationError(
            f"{what} must be an http:// or https:// URL, such as http://proxy.example:3128"
        )
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path="", query="", fragment=""))
    if parts.username is None:
        return Proxy(bare)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return Proxy(bare, {"Proxy-Authorization": HeaderValue("Basic " + b64encode(pair).decode())})


@attrs.frozen
class Proxies:
    """Which proxy a URL goes through: one for everything, or as the environment says."""

    fixed: Proxy | None = None
    by_scheme: Mapping[str, Proxy] = attrs.field(factory=dict)
    no_proxy: tuple[str, ...] = ()

    @property
    def hosts(self) -> frozenset[str]:
        """The names of all proxies: chosen by the user, so free to be on this machine."""
        given = [*self.by_scheme.values(), *([self.fixed] if self.fixed is not None else [])]
        return frozenset(urlsplit(proxy.url).hostname or "" for proxy in given)

    def for_url(self, scheme: str, host: str) -> Proxy | None:
        """The proxy for one request, or None."""
        if self.fixed is not None:
            return self.fixed
        if not self.by_scheme or self._excepted(host):
            return None
        return self.by_scheme.get(scheme) or self.by_scheme.get("all")

    def _excepted(self, host: str) -> bool:
        names = (name.lstrip(".") for name in self.no_proxy)
        return any(name == "*" or host == name or host.endswith(f".{name}") for name in names)


IsLocal = Callable[[str], bool]


class GuardedResolver(AbstractResolver):
    """Resolves the names the user configured freely and refuses local addresses for every other name.

    Unless the API itself is on such an address: then an object store beside it may be as well.
    """

    def __init__(
        self, api_host: str, *, proxy_hosts: frozenset[str], api_is_local: bool, is_local: IsLocal
    ) -> None:
        self._api_host = api_host
        self._proxy_hosts = proxy_hosts
        self._is_local = is_local
        self._inner: AbstractResolver | None = None
        self.api_is_local = api_is_local

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve in a thread, then look at what came out."""
        self._inner = self._inner or ThreadedResolver()
        found = await self._inner.resolve(host, port, family)
        local = any(self._is_local(each["host"]) for each in found)
        if host == self._api_host:
            self.api_is_local = self.api_is_local or local
        elif local and not self.api_is_local and host not in self._proxy_hosts:
            raise ForbiddenAddress("a local address behind a foreign name")
        return found

    async def close(self) -> None:
        """Close what was opened."""
        if self._inner is not None:
            await self._inner.close()
