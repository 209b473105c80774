"""Tokens, held so that nothing which prints, logs or pickles can show them.

A token is revealed in one place only: where the header of one request is joined. GitLab's own list
of ways to authenticate: https://docs.gitlab.com/api/rest/authentication/
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from asyncjobs._errors import ConfigurationError

TokenSource = str | Callable[[], Awaitable[str]]
"""A token, or an async callable that gives the one to use now (rotation, a keyring)."""

_TOKEN = re.compile(r"[A-Za-z0-9._\-=+/~:]{1,512}")
_SCRUBBED_LENGTH: Final = 8
MASK: Final = "[MASKED]"


class HeaderValue(str):
    """A header value that travels as it is and prints as a mask, also inside other people's reprs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)


class Secret:
    """A string that is only there when asked for by name."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The token itself; its repr is masked."""
        return HeaderValue(self.__value)

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.__value == other.__value

    def __hash__(self) -> int:
        return hash(self.__value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written anywhere")


def checked_token(value: object, *, what: str) -> Secret:
    """Take a token as people paste and store it, and refuse what cannot be one.

    Raises:
        ConfigurationError: Not a string, empty, or with characters no GitLab token has. The
            message names *what* and never repeats the value.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} must be a string, not {type(value).__name__}")
    token = value.strip()
    if not _TOKEN.fullmatch(token):
        problem = "is empty" if not token else "has characters that no GitLab token has, or is too long"
        raise ConfigurationError(f"{what} {problem}")
    return Secret(token)


class Credential:
    """How a client proves who it is: a header name, and a token that may change over time."""

    __slots__ = ("__answers", "__asking", "__seen", "__source", "__token", "header", "kind")

    KINDS: Final = {
        "private_token": "PRIVATE-TOKEN",
        "job_token": "JOB-TOKEN",
        "oauth_token": "Authorization",
    }
    """The names of the client's three options, and the header each travels in."""

    def __init__(self, kind: str, source: TokenSource) -> None:
        self.kind = kind
        self.header = self.KINDS[kind]
        self.__seen: list[Secret] = []
        self.__token: Secret | None = None
        self.__answers = 0
        self.__asking = asyncio.Lock()
        self.__source = None if isinstance(source, str) else source
        if isinstance(source, str):
            self.__keep(source)
        elif not callable(source):
            raise ConfigurationError(
                f"{kind} must be a string or an async callable, not {type(source).__name__}"
            )

    def __keep(self, value: object) -> Secret:
        self.__token = checked_token(value, what=self.kind)
        self.__answers += 1
        # Texts of the server are scrubbed of the last few tokens; a rotation never has more in flight.
        if self.__token not in self.__seen:
            self.__seen = [*self.__seen[-3:], self.__token]
        return self.__token

    async def token(self) -> Secret:
        """The token to use now; the callable is asked once and then again by `renew`."""
        if self.__token is not None:
            return self.__token
        # A thousand calls that begin together ask a keyring once, not a thousand times.
        async with self.__asking:
            return await self.__first()

    async def __first(self) -> Secret:
        if self.__token is not None:
            return self.__token
        return self.__keep(await self.__ask())

    async def __ask(self) -> object:
        """Ask the caller's callable; its own errors are its own."""
        assert self.__source is not None
        given = self.__source()
        if not inspect.isawaitable(given):
            raise ConfigurationError(f"{self.kind} must be a string or an async callable, not a plain one")
        return await given

    async def renew(self, refused: Secret) -> bool:
        """After a 401 with *refused*: ask the callable again; True when there is a different token."""
        if self.__source is None:
            return False
        answers = self.__answers
        async with self.__asking:
            # Not again for each of a thousand calls that were refused together, whatever the first one got.
            if self.__token == refused and self.__answers == answers:
                self.__keep(await self.__ask())
            return self.__token != refused

    def value(self, token: Secret) -> str:
        """The header's value, masked when printed."""
        if self.header == "Authorization":
            return HeaderValue("Bearer " + token.reveal())
        return token.reveal()

    def scrub(self, text: str) -> str:
        """*text* with every token of this credential replaced."""
        for secret in self.__seen:
            # Shorter ones are no GitLab token, and would tear holes into plain words.
            if len(secret.reveal()) >= _SCRUBBED_LENGTH:
                text = text.replace(str(secret.reveal()), MASK)
        return text

    def identity(self) -> object:
        """Equal for credentials that share a budget: the same fixed token, or the same callable."""
        return self.__token if self.__source is None else self.__source

    def __repr__(self) -> str:
        return f"Credential({self.kind})"
