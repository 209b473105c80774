"""Users, groups, tokens and who may do what: GitLab's roles as numbers, nothing about HTTP.

GitLab: https://docs.gitlab.com/user/permissions/, lib/gitlab/auth in its source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    from asyncjobs.testing._jobs import FakeJob

GUEST, REPORTER, DEVELOPER, MAINTAINER, OWNER = 10, 20, 30, 40, 50

TokenKind = Literal["private", "oauth", "job"]
Visibility = Literal["private", "internal", "public"]


@attrs.define(eq=False, kw_only=True)
class FakeUser:
    """Somebody who can sign in."""

    id: int
    username: str
    name: str
    state: str = "active"
    admin: bool = False
    created_at: float = 0.0


@attrs.define(eq=False, kw_only=True)
class FakeToken:
    """A credential. `str(token)` is its value, to be sent in a header."""

    value: str = attrs.field(repr=False)
    kind: TokenKind
    user: FakeUser
    scopes: tuple[str, ...] = ("api",)
    expired: bool = False
    revoked: bool = False
    job: FakeJob | None = None
    """The job a job token belongs to: it works while the job runs."""

    def __str__(self) -> str:
        return self.value

    def may_read(self) -> bool:
        """Whether a scope allows GET and HEAD on the API."""
        return "api" in self.scopes or "read_api" in self.scopes


@attrs.define(eq=False, kw_only=True)
class FakeGroup:
    """A namespace of projects; `full_path` holds its parents."""

    id: int
    full_path: str
    visibility: Visibility = "private"
    members: dict[int, int] = attrs.field(factory=dict)
    """User id to access level (10 guest to 50 owner), inherited by everything inside."""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.full_path.rpartition("/")[2]

    def contains(self, full_path: str) -> bool:
        """Whether a project or group of that path lies inside, at any depth."""
        return full_path.startswith(f"{self.full_path}/")
