"""Faults by name: which request meets one, how often, and the board where they hang.

What each name does to an answer stands in `_fault_kinds`; the table of all names is `gitlab.faults.names()`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import attrs

from asyncjobs.testing._answers import Answer
from asyncjobs.testing._call import Call, Origin, RecordedRequest
from asyncjobs.testing._log import Where, matches
from asyncjobs.testing._wire import Sending

Option = str | int | float | bytes | bool | None


@attrs.define
class Plan:
    """What a fault does to one request."""

    instead: Answer | None = None
    """This answer in place of the route's."""
    raw: bytes | None = None
    """These bytes in place of any HTTP answer."""
    ending: str = "fin"
    """How the connection ends after `raw`: fin, reset or stall."""
    forget: tuple[str, ...] = ()
    """Request headers the server does not notice."""
    app: Callable[[Answer], None] | None = None
    """Changes the route's answer before ETag and gzip."""
    wire: Callable[[Answer, Sending], None] | None = None
    """Changes the finished answer and how it is sent."""

    @property
    def replaces(self) -> bool:
        """Whether the server is left out; where its answer is only changed, it has done what was asked."""
        return self.instead is not None or self.raw is not None


@attrs.frozen
class Kind:
    """A named fault."""

    help: str
    """What it does, in one line."""
    build: Callable[[Call, Options], Plan]
    needs_range: bool = False
    """Meets only requests with a Range header."""


@attrs.frozen
class Options:
    """The keywords given with a fault."""

    values: dict[str, Option] = attrs.field(factory=dict)

    def number(self, name: str, default: float) -> float:
        """A numeric option."""
        value = self.values.get(name, default)
        if isinstance(value, (int, float)):
            return value
        raise TypeError(f"{name} is a number, not {value!r}")

    def whole(self, name: str, default: int) -> int:
        """A whole-number option."""
        return int(self.number(name, default))

    def text(self, name: str, default: str) -> str:
        """A text option."""
        value = self.values.get(name)
        return default if value is None else str(value)

    def has(self, name: str) -> bool:
        """Whether the option was given."""
        return self.values.get(name) is not None


@attrs.define(eq=False)
class Fault:
    """A fault that hangs on the board. `hits` counts the requests it met."""

    name: str
    kind: Kind = attrs.field(repr=False)
    options: Options
    times: int | None = 1
    where: Where = None
    origin: Origin | None = None
    method: str | None = None
    every: int = 1
    skip: int = 0
    chance: float = 1.0
    executed: bool = False
    random: random.Random = attrs.field(factory=random.Random, repr=False)
    seen: int = 0
    """Requests that fitted."""
    hits: int = 0
    """Requests that met the fault."""

    @property
    def exhausted(self) -> bool:
        """It has met as many requests as it should."""
        return self.times is not None and self.hits >= self.times

    def meets(self, request: RecordedRequest) -> bool:
        """Count a request and say whether it meets this fault."""
        fits = (
            not self.exhausted
            and (self.origin is None or request.origin == self.origin)
            and (self.method is None or request.method == self.method)
            and not (self.kind.needs_range and "Range" not in request.headers)
            and matches(request, self.where)
        )
        if not fits:
            return False
        self.seen += 1
        turn = self.seen > self.skip and (self.seen - self.skip) % self.every == 0
        if not turn or (self.chance < 1.0 and self.random.random() >= self.chance):
            return False
        self.hits += 1
        return True


class FaultBoard:
    """All faults that wait for a request, in the order they were hung up; the first that fits is met."""

    def __init__(self, kinds: dict[str, Kind]) -> None:
        self._kinds = kinds
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        name: str,
        *,
        times: int | None = None,
        where: Where = None,
        origin: Origin | None = None,
        method: str | None = None,
        every: int = 1,
        skip: int = 0,
        chance: float = 1.0,
        seed: int = 0,
        executed: bool = False,
        **options: Option,
    ) -> Fault:
        """Hang up a fault.

        Args:
            name: One of `names()`, or any status such as "503".
            times: How many requests meet it; None for all.
            where: Glob on the decoded path (`*/trace`), a function of the request, or None for all.
            origin: `api`, `storage`, or None for both.
            method: HTTP method, or None for all.
            every: Only every n-th fitting request.
            skip: Fitting requests that pass before the first.
            chance: Probability for each fitting request, from a source seeded with *seed*.
            seed: See *chance*.
            executed: The server does what was asked before the fault strikes (a POST whose answer is lost).
            options: Keywords of the fault, as its line in `names()` tells.

        Raises:
            ValueError: No fault of that name.
        """
        kind = self._kinds.get(name) or (self._kinds["status"] if _is_status(name) else None)
        if kind is None:
            raise ValueError(f"no fault {name!r}; there are statuses and {', '.join(sorted(self._kinds))}")
        if every < 1:
            raise ValueError(f"every counts from 1, not {every}")
        if _is_status(name):
            options["status"] = int(name)
        fault = Fault(
            name=name,
            kind=kind,
            options=Options(options),
            times=times,
            where=where,
            origin=origin,
            method=method,
            every=every,
            skip=skip,
            chance=chance,
            executed=executed,
            random=random.Random(seed),
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, request: RecordedRequest) -> Fault | None:
        """The fault a request meets, None for good luck."""
        with self._lock:
            found = next((fault for fault in self._faults if fault.meets(request)), None)
            self._faults = [fault for fault in self._faults if not fault.exhausted]
            return found

    def remove(self, fault: Fault) -> None:
        """Take one down; already gone is fine."""
        with self._lock:
            self._faults = [one for one in self._faults if one is not fault]

    def clear(self) -> None:
        """Take all down."""
        with self._lock:
            self._faults.clear()

    @property
    def waiting(self) -> list[Fault]:
        """Faults that still wait for requests."""
        with self._lock:
            return list(self._faults)

    def names(self) -> dict[str, str]:
        """Every name with what it does and its options."""
        return {name: kind.help for name, kind in sorted(self._kinds.items())}


def _is_status(name: str) -> bool:
    return len(name) == 3 and name.isascii() and name.isdigit() and 100 <= int(name) <= 599
