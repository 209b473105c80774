"""The log of requests: what arrived at either origin, in order, and how one counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import overload

import attrs

from asyncjobs.testing._call import Origin, RecordedRequest

Where = str | Callable[[RecordedRequest], bool] | None
"""Which requests: a glob on the decoded path (`*/trace`), a function, or None for all."""


def matches(request: RecordedRequest, where: Where) -> bool:
    """Whether a request is meant by *where*."""
    if where is None:
        return True
    if callable(where):
        return where(request)
    return fnmatchcase(request.path, where)


class RequestLog(Sequence[RecordedRequest]):
    """Every request in order of arrival: frozen entries, each replaced as its answer goes on."""

    def __init__(self, *, limit: int = 100_000) -> None:
        self._limit = limit
        self._entries: list[RecordedRequest] = []
        self._dropped = 0

    @overload
    def __getitem__(self, index: int) -> RecordedRequest: ...
    @overload
    def __getitem__(self, index: slice) -> list[RecordedRequest]: ...
    def __getitem__(self, index: int | slice) -> RecordedRequest | list[RecordedRequest]:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[RecordedRequest]:
        return iter(list(self._entries))

    @property
    def next_number(self) -> int:
        """Number of the next request."""
        return self._dropped + len(self._entries) + 1

    def add(self, entry: RecordedRequest) -> None:
        """Note an arrival; the older half is forgotten when the log is full."""
        if len(self._entries) >= self._limit:
            gone = max(1, self._limit // 2)
            del self._entries[:gone]
            self._dropped += gone
        self._entries.append(entry)

    def update(
        self, number: int, *, status: int | None = None, sent: int | None = None, fault: str | None = None
    ) -> None:
        """Note what became of a request."""
        index = number - self._dropped - 1
        if index < 0:
            return
        entry = self._entries[index]
        self._entries[index] = attrs.evolve(
            entry,
            status=entry.status if status is None else status,
            sent=entry.sent if sent is None else sent,
            fault=fault or entry.fault,
        )

    def clear(self) -> None:
        """Forget all entries; numbers go on."""
        self._dropped += len(self._entries)
        self._entries.clear()

    def filter(
        self,
        where: Where = None,
        *,
        method: str | None = None,
        status: int | None = None,
        origin: Origin | None = None,
    ) -> list[RecordedRequest]:
        """The requests that fit.

        Args:
            where: Glob on the decoded path, function of the request, or None for all.
            method: HTTP method.
            status: Status of the answer.
            origin: `api` or `storage`.
        """
        return [
            one
            for one in self
            if matches(one, where)
            and (method is None or one.method == method)
            and (status is None or one.status == status)
            and (origin is None or one.origin == origin)
        ]

    def count(
        self,
        where: Where = None,
        *,
        method: str | None = None,
        status: int | None = None,
        origin: Origin | None = None,
    ) -> int:
        """How many requests fit; arguments as for `filter`."""
        return len(self.filter(where, method=method, status=status, origin=origin))

    def sent(self, where: Where = None, *, origin: Origin | None = None) -> int:
        """Body bytes put on the wire for the requests that fit."""
        return sum(one.sent for one in self.filter(where, origin=origin))

    def showing(self, secret: str, *, origin: Origin | None = None) -> list[RecordedRequest]:
        """The requests in whose target, headers or body *secret* stands."""
        raw = secret.encode()
        return [
            one
            for one in self.filter(origin=origin)
            if secret in one.raw_path
            or any(secret in value for value in one.headers.values())
            or raw in one.body
        ]
