"""What a client is made of, and its lifetime: settings, credentials, connections, threads."""

from __future__ import annotations

import os
import random
import ssl
from enum import Enum, auto
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict, TypeVar, Unpack, cast

from asyncjobs._api import Api, Exchange, shared_budget
from asyncjobs._client.endpoints import EndpointMethods
from asyncjobs._client.features import FeatureMethods
from asyncjobs._clock import Clock, SystemClock
from asyncjobs._environment import Settings, from_config, from_environment, proxy_variables
from asyncjobs._errors import ClosedError, ConfigurationError
from asyncjobs._models import Statistics
from asyncjobs._options import Limits, RetryPolicy, Timeouts
from asyncjobs._protocol.redirects import is_forbidden_host, is_local_address
from asyncjobs._protocol.urls import ApiRoot, parse_api_root
from asyncjobs._secrets import Credential, TokenSource
from asyncjobs._storage import Files, Storage
from asyncjobs._transport import (
    ClientCertificate,
    ConnectorFactory,
    GuardedResolver,
    Proxies,
    Transport,
    parse_proxy,
    tcp_connector,
    tls_context,
)
from asyncjobs._version import __version__

Options = TypeVar("Options", Limits, Timeouts, RetryPolicy)


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    CLOSED = auto()


class ClientOptions(TypedDict, total=False):
    """The arguments of `Client`, for the functions that pass them on."""

    url: str
    private_token: TokenSource | None
    job_token: TokenSource | None
    oauth_token: TokenSource | None
    limits: Limits | None
    timeouts: Timeouts | None
    retry: RetryPolicy | None
    ca_file: str | Path | None
    client_cert: ClientCertificate | None
    proxy: str | None
    user_agent: str | None
    clock: Clock | None
    chance: random.Random | None
    connector_factory: ConnectorFactory
    files: Files | None


class Client(EndpointMethods, FeatureMethods):
    """A GitLab, as far as jobs go. Use it as `async with Client(...) as client`.

    Args:
        url: The address of the GitLab, with or without `/api/v4`.
        private_token: A personal, project or group access token, or an async callable giving one.
        job_token: A CI job token (`CI_JOB_TOKEN`), likewise.
        oauth_token: An OAuth 2 access token, likewise. At most one of the three; none is anonymous.
        limits: How much at once. Clients that are given the same object share one budget.
        timeouts: How long to wait.
        retry: When a failed request is sent again.
        ca_file: A PEM file with further authorities to trust, beside the system's.
        client_cert: A PEM file with certificate and key, or a pair of files; shown to the API only.
        proxy: An http or https proxy for everything; None takes the environment's.
        user_agent: Sent with every request.
        clock: Time, for tests and simulation.
        chance: The one source of random numbers (jitter), likewise.
        connector_factory: Makes the aiohttp connectors, likewise.
        files: File calls, likewise.

    Raises:
        ConfigurationError: Something of this cannot be used; nothing was sent.

    Every await can be cancelled. Closing, or leaving the context, closes all connections; twice is fine.
    """

    def __init__(
        self,
        url: str,
        *,
        private_token: TokenSource | None = None,
        job_token: TokenSource | None = None,
        oauth_token: TokenSource | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        ca_file: str | Path | None = None,
        client_cert: ClientCertificate | None = None,
        proxy: str | None = None,
        user_agent: str | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        connector_factory: ConnectorFactory = tcp_connector,
        files: Files | None = None,
    ) -> None:
        if not isinstance(url, str):
            raise ConfigurationError(f"url must be text, not {type(url).__name__}")
        self._root = parse_api_root(url)
        self._credential = _credential(private_token, job_token, oauth_token)
        self._limits = _option("limits", limits, Limits)
        self._timeouts = _option("timeouts", timeouts, Timeouts)
        self._retry = _option("retry", retry, RetryPolicy)
        self._tls = _Tls(ca_file, client_cert, eager=self._root.origin.scheme == "https")
        self._proxies = _proxies(proxy)
        self._user_agent = _header("user_agent", user_agent or f"asyncjobs/{__version__}")
        self._clock = clock or SystemClock()
        self._chance = chance or random.Random()
        self._connector_factory = connector_factory
        self._files = files
        self._disk: Storage | None = None
        self._state = _State.NEW
        self._api_when_open: Api | None = None

    @classmethod
    def from_env(cls, **options: Unpack[ClientOptions]) -> Self:
        """A client from the variables that GitLab CI and other tools use.

        The URL is the first of `GITLAB_URL`, `CI_SERVER_URL`, `CI_API_V4_URL`, else gitlab.com; the
        token the first of `GITLAB_TOKEN`, `GITLAB_PRIVATE_TOKEN`, `GITLAB_OAUTH_TOKEN`,
        `CI_JOB_TOKEN`, else none. `GITLAB_CA_FILE` names further authorities.

        Args:
            **options: As for `Client`; they win over the environment.

        Raises:
            ConfigurationError: Something of this cannot be used.
        """
        if os.environ.get("GITLAB_CA_FILE"):
            options.setdefault("ca_file", os.environ["GITLAB_CA_FILE"])
        return cls._from_settings(from_environment(os.environ), options)

    @classmethod
    def from_config(cls, section: str | None = None, **options: Unpack[ClientOptions]) -> Self:
        """A client from python-gitlab's configuration files, because people already have one.

        Args:
            section: The section to read; None takes the default that the file names.
            **options: As for `Client`; they win over the file.

        Raises:
            ConfigurationError: No file, no such section, or `ssl_verify = false`: certificates are
                always verified here, so pass `ca_file` for a private authority.

        See https://python-gitlab.readthedocs.io/en/stable/cli-usage.html
        """
        settings = from_config(section, os.environ)
        if not settings.verify and "ca_file" not in options:
            raise ConfigurationError("ssl_verify is off in the configuration: pass ca_file, or name it there")
        if settings.ca_file is not None:
            options.setdefault("ca_file", settings.ca_file)
        if settings.timeout is not None:
            options.setdefault("timeouts", Timeouts(control_total=settings.timeout))
        return cls._from_settings(settings, options)

    @classmethod
    def _from_settings(cls, settings: Settings, options: ClientOptions) -> Self:
        if settings.token_kind is not None and not any(kind in options for kind in Credential.KINDS):
            options = cast(ClientOptions, {**options, settings.token_kind: settings.token})
        return cls(**cast(ClientOptions, {"url": settings.url, **options}))

    @property
    def url(self) -> str:
        """The address a person would use."""
        return self._root.web_url

    # -- lifetime ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._state is not _State.NEW:
            raise ClosedError("a client is entered once; make a new one")
        self._state = _State.OPEN
        self._api_when_open = self._open(self._root)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _open(self, root: ApiRoot) -> Api:
        host = root.origin.host
        resolver = GuardedResolver(
            host,
            proxy_hosts=self._proxies.hosts,
            api_is_local=is_forbidden_host(host),
            is_local=is_local_address,
        )
        identity = None if self._credential is None else self._credential.identity()
        return Api(
            Exchange(
                root=root,
                credential=self._credential,
                transport=Transport(
                    timeouts=self._timeouts,
                    resolver=resolver,
                    proxies=self._proxies,
                    tls=self._tls.context,
                    connector_factory=self._connector_factory,
                ),
                budget=shared_budget(self._limits, root.origin, identity, self._clock, self._chance),
                policy=self._retry,
                timeouts=self._timeouts,
                clock=self._clock,
                chance=self._chance,
                user_agent=self._user_agent,
            )
        )

    async def aclose(self) -> None:
        """Close every connection and end what still waits; twice is fine.

        Calls of this client that wait, for a slot, at a closed gate, for the next minute or between two
        attempts, end at once with `ClosedError`, and so do reads under way. A call that changes something
        and was sent already ends with `OutcomeUnknownError`. Other clients that share the same `Limits`
        go on.

        Cancellation: everything is closed all the same, without waiting for it.
        """
        self._state = _State.CLOSED
        try:
            if self._api_when_open is not None:
                await self._api_when_open.exchange.aclose()
        finally:
            if self._disk is not None:
                await self._disk.aclose()

    @property
    def _api(self) -> Api:
        if self._state is _State.OPEN and self._api_when_open is not None:
            return self._api_when_open
        raise ClosedError(
            "this client is closed" if self._state is _State.CLOSED else "use `async with` first"
        )

    @property
    def _storage(self) -> Storage:
        """The disk; its threads start with the first file call."""
        if self._state is _State.CLOSED:
            raise ClosedError("this client is closed")
        if self._disk is None:
            self._disk = Storage(self._files)
        return self._disk

    def __repr__(self) -> str:
        if "_api_when_open" not in vars(self):
            return "<Client that could not be built>"  # a traceback may show it
        who = "anonymous" if self._credential is None else self._credential.kind
        return f"<Client {self.url} {who} {self._state.name.lower()}>"

    def statistics(self) -> Statistics:
        """A snapshot of requests, retries, bytes, waits and gates, by endpoint class and lane."""
        return self._api.exchange.budget.statistics()


class _Tls:
    """The TLS contexts of a client, made when first needed: loading authorities takes milliseconds."""

    def __init__(
        self, ca_file: str | Path | None, client_cert: ClientCertificate | None, *, eager: bool
    ) -> None:
        self._make = {
            True: partial(tls_context, ca_file, client_cert),
            False: partial(tls_context, ca_file, None),
        }
        self._made: dict[bool, ssl.SSLContext] = {}
        if eager or ca_file is not None or client_cert is not None:
            self.context(True)  # a wrong file is said now, not at the first request

    def context(self, trusted: bool) -> ssl.SSLContext:
        """The context for the API's own origin (*trusted*), or for any other."""
        if trusted not in self._made:
            self._made[trusted] = self._make[trusted]()
        return self._made[trusted]


def _option(name: str, given: Options | None, kind: type[Options]) -> Options:
    """An options object, or its defaults; a mapping or a number would fail much later, somewhere deep."""
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise ConfigurationError(f"{name} must be asyncjobs.{kind.__name__}(...), not {type(given).__name__}")
    return given


def _header(name: str, value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"{name} must be one line of printable ASCII")
    return value


def _credential(
    private_token: TokenSource | None, job_token: TokenSource | None, oauth_token: TokenSource | None
) -> Credential | None:
    given = {"private_token": private_token, "job_token": job_token, "oauth_token": oauth_token}
    chosen = [(kind, source) for kind, source in given.items() if source is not None]
    if len(chosen) > 1:
        raise ConfigurationError(f"pass one token, not {' and '.join(kind for kind, _ in chosen)}")
    return Credential(*chosen[0]) if chosen else None


def _proxies(proxy: str | None) -> Proxies:
    if proxy is not None:
        return Proxies(fixed=parse_proxy(proxy))
    by_scheme, excepted = proxy_variables(os.environ)
    return Proxies(
        by_scheme={
            each: parse_proxy(url, what=f"{each}_proxy in the environment") for each, url in by_scheme.items()
        },
        no_proxy=excepted,
    )
