"""The wire: the only client room that knows aiohttp. Sends one request, streams one body, names failures."""

from asyncjobs._transport.http import ConnectorFactory, Hop, Reply, Transport, tcp_connector
from asyncjobs._transport.network import (
    ClientCertificate,
    GuardedResolver,
    Proxies,
    Proxy,
    parse_proxy,
    tls_context,
)

__all__ = [
    "ClientCertificate",
    "ConnectorFactory",
    "GuardedResolver",
    "Hop",
    "Proxies",
    "Proxy",
    "Reply",
    "Transport",
    "parse_proxy",
    "tcp_connector",
    "tls_context",
]
