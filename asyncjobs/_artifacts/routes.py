"""Which endpoints for the inside of an archive a server has, as its own answers have proved.

GitLab serves single files since 10.0 and lists them since 18.x. A missing endpoint and a missing file are
both 404; lib/api/api.rb says `{"error": "404 Not Found"}` for the first, and nothing else is taken for it.
"""

from __future__ import annotations

import weakref

import attrs

from asyncjobs._api import Api
from asyncjobs._clock import Clock
from asyncjobs._errors import BadResponseError, NotFoundError, ResponseError
from asyncjobs._manifest import is_shadowed
from asyncjobs._protocol.urls import member_path

_TRUSTED_SECONDS = 3600.0
"""A server may be upgraded under a client that lives for long, so it is asked again from time to time."""

_NOT_ACCEPTABLE = 406
"""What Grape says to an extension that it does not know."""

_NO_FILE = "404 page not found"
"""What Workhorse says when a file is not in an archive (workhorse/internal/artifacts/entry.go)."""


@attrs.define
class Routes:
    """What one server lacks; nothing is lacking until it said so."""

    _clock: Clock
    _no_member_at: float = float("-inf")
    _no_tree_at: float = float("-inf")

    @property
    def lack_member(self) -> bool:
        """No `artifacts/*path`: a file comes only with the whole archive."""
        return self._clock.monotonic() - self._no_member_at < _TRUSTED_SECONDS

    @property
    def lack_tree(self) -> bool:
        """No `artifacts/tree`."""
        return self._clock.monotonic() - self._no_tree_at < _TRUSTED_SECONDS

    def learn_from_member(self, member: str, error: ResponseError) -> bool:
        """Take a refusal of `artifacts/*path` for what it says; whether only the whole archive can help."""
        if error.no_route:
            self._no_member_at = self._no_tree_at = self._clock.monotonic()
            return True
        if not is_shadowed(member):
            return False
        listed = isinstance(error, BadResponseError) or error.status == _NOT_ACCEPTABLE
        # The listing has a 404 of its own, for archives without metadata.
        return listed or (isinstance(error, NotFoundError) and error.message != _NO_FILE)

    def learn_from_tree(self, error: NotFoundError) -> None:
        """Take a 404 of `artifacts/tree` for what it says.

        A server with single files and without the listing looks for a file called `tree`, so one that has no
        such endpoint has neither.
        """
        if error.no_route:
            self._no_member_at = self._no_tree_at = self._clock.monotonic()
        elif error.message == _NO_FILE:
            self._no_tree_at = self._clock.monotonic()


_known: weakref.WeakKeyDictionary[Api, Routes] = weakref.WeakKeyDictionary()


def routes_of(api: Api) -> Routes:
    """What one client has learned about its server."""
    return _known.setdefault(api, Routes(api.clock))


def check_path(member: str) -> None:
    """Refuse a path that could not be asked for, also where it need not be.

    Raises:
        ValueError: Absolute, or with an empty, `.` or `..` part.
    """
    try:
        member_path(member)
    except ValueError:
        raise ValueError(
            f"not the path of a file in an archive: {member[:200]!r};"
            " it must be relative, without empty, . or .. parts"
        ) from None
