"""One request as a route sees it: who calls, with which parameters, in which world.

Also GitLab's parameter checks with their texts (`page is invalid`, `scope does not have a valid value`);
several problems are joined with a comma, as the framework does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, unquote

import attrs
from multidict import CIMultiDict, CIMultiDictProxy

from asyncjobs.testing._answers import error
from asyncjobs.testing._generations import Rules
from asyncjobs.testing._people import FakeToken, FakeUser
from asyncjobs.testing._world import World

if TYPE_CHECKING:
    from asyncjobs.testing._settings import Settings

Params = list[tuple[str, str]]
Origin = Literal["api", "storage"]


@attrs.frozen(kw_only=True)
class RecordedRequest:
    """One request as it arrived, and what it was answered."""

    number: int
    """Counts from 1 over both origins."""
    time: float
    """Seconds since the epoch on the fake's clock, at arrival."""
    origin: Origin
    """Which of the two servers was asked."""
    method: str
    path: str
    """Decoded, without the query."""
    raw_path: str
    """As on the wire, with the query."""
    query: tuple[tuple[str, str], ...] = ()
    """Decoded parameters in the order sent."""
    headers: CIMultiDictProxy[str] = attrs.field(factory=lambda: CIMultiDictProxy(CIMultiDict()), repr=False)
    """All headers, credentials included."""
    body: bytes = attrs.field(default=b"", repr=False)
    status: int | None = None
    """None until answered, and when the connection ended before a status line."""
    sent: int = 0
    """Body bytes put on the wire, after compression."""
    fault: str | None = None
    """The named fault that met this request."""
    connection: int = 0
    """The caller's port: the same for requests that shared a connection."""

    def param(self, name: str) -> str | None:
        """The last value of a query parameter."""
        return dict(self.query).get(name)


@attrs.define(kw_only=True)
class Call:
    """A request on its way through a route."""

    world: World
    settings: Settings
    request: RecordedRequest
    path_params: dict[str, str] = attrs.field(factory=dict)
    route_path: str = ""
    """Path after the base, still encoded."""
    token: FakeToken | None = None
    job_token: FakeToken | None = None
    """Set instead of `token` where a job token was accepted."""
    _params: Params | None = None

    @property
    def rules(self) -> Rules:
        """The generation's facts."""
        return self.world.rules

    @property
    def user(self) -> FakeUser | None:
        """Who calls; None for anonymous."""
        token = self.token or self.job_token
        return None if token is None else token.user

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self.world.agenda.now

    @property
    def params(self) -> Params:
        """Query and body parameters together."""
        if self._params is None:
            self._params = [*self.request.query, *_body_params(self.request)]
        return self._params

    def get(self, name: str) -> str | None:
        """The last value of a parameter."""
        return dict(self.params).get(name)

    def values(self, name: str) -> list[str]:
        """All values of `name` and `name[]`."""
        return [value for key, value in self.params if key in (name, f"{name}[]")]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A true-or-false parameter.

        Raises:
            Refusal: 400 for anything else.
        """
        value = self.get(name)
        if value is None or value == "":
            return default
        if value.lower() in ("true", "t", "1", "on"):
            return True
        if value.lower() in ("false", "f", "0", "off"):
            return False
        raise error(400, f"{name} is invalid")

    def number(self, name: str, default: int) -> int:
        """A whole number from the parameters.

        Raises:
            Refusal: 400 for anything else.
        """
        value = self.get(name)
        if value is None or value == "":
            return default
        try:
            return int(value)
        except ValueError:
            raise error(400, f"{name} is invalid") from None

    def path_number(self, name: str) -> int:
        """A whole number from the path.

        Raises:
            Refusal: 400 for anything else.
        """
        value = self.path_params[name]
        if not value.isascii() or not value.isdigit():
            raise error(400, f"{name} is invalid")
        return int(value)

    def choice(self, name: str, allowed: Sequence[str], default: str | None = None) -> str | None:
        """One of a few words.

        Raises:
            Refusal: 400 for any other.
        """
        value = self.get(name)
        if value is None or value == "":
            return default
        if value not in allowed:
            raise error(400, f"{name} does not have a valid value")
        return value

    def scope(self) -> list[str]:
        """The job statuses asked for; [] for all.

        Raises:
            Refusal: 400 when one is unknown to this generation.
        """
        words = [word for word in self.values("scope") if word]
        if any(word not in self.rules.statuses for word in words):
            raise error(400, "scope does not have a valid value")
        return words


def _body_params(request: RecordedRequest) -> Params:
    if not request.body:
        return []
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            value = json.loads(request.body)
        except ValueError:
            raise error(400, "Bad Request") from None
        return list(_flatten(value)) if isinstance(value, dict) else []
    if kind in ("application/x-www-form-urlencoded", ""):
        return parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    return []


def _flatten(value: dict[str, object]) -> Params:
    pairs: Params = []
    for key, item in value.items():
        if isinstance(item, list):
            for one in item:
                if isinstance(one, dict):
                    pairs += [(f"{key}[][{name}]", str(inner)) for name, inner in one.items()]
                else:
                    pairs.append((f"{key}[]", str(one)))
        elif isinstance(item, bool):
            pairs.append((key, "true" if item else "false"))
        elif item is not None:
            pairs.append((key, str(item)))
    return pairs


def split_raw(raw_path: str) -> tuple[str, Params]:
    """Cut a request target into its encoded path and its decoded query."""
    path, _, query = raw_path.partition("?")
    return path, parse_qsl(query, keep_blank_values=True)


def decode(segment: str) -> str:
    """Undo percent-encoding."""
    return unquote(segment, errors="replace")
