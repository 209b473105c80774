"""Addresses: the API's root, origins, percent-encoded paths, and URLs that are safe to print.

Every segment of a path is encoded here and nowhere else, so that no project, ref or member name
can change which endpoint is asked (GitLab wants `group%2Fproject`; `..` is refused outright).
GitLab: https://docs.gitlab.com/api/rest/#namespaced-paths
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, quote, urlsplit, urlunsplit

import attrs

from asyncjobs._errors import ConfigurationError

_DEFAULT_PORTS = {"http": 80, "https": 443}

# Query names whose values say nothing secret; every other value is masked when a URL is printed.
_PRINTABLE_QUERY = frozenset(
    {
        "byte_limit", "byte_offset", "created_after", "created_before", "file_type", "force", "id_after",
        "id_before", "include_retried", "include_subgroups", "job", "name", "order_by", "page", "pagination",
        "path", "per_page", "recursive", "ref", "scope", "scope[]", "sha", "simple", "sort", "source",
        "status", "updated_after", "updated_before", "with_shared", "yaml_errors",
    }
)  # fmt: skip


@attrs.frozen
class Origin:
    """Scheme, host and port: what a credential belongs to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (
            "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        )


@attrs.frozen
class ApiRoot:
    """Where the API lives: an origin, and the path in front of every endpoint."""

    origin: Origin
    prefix: str
    """`/api/v4`, with the relative root of the installation in front of it."""

    def url(self, path: str) -> str:
        """The absolute URL of an encoded *path* that begins with a slash."""
        return f"{self.origin}{self.prefix}{path}"

    @property
    def web_url(self) -> str:
        """The address a person would use."""
        return f"{self.origin}{self.prefix.removesuffix('/api/v4')}"


def parse_origin(parts: SplitResult) -> Origin:
    """The origin of a split URL.

    Raises:
        ValueError: Not http or https, no host, or a port that is none.
    """
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"the scheme must be http or https, not {parts.scheme!r}")
    if not parts.hostname:
        raise ValueError("there is no host in it")
    if parts.port == 0:
        raise ValueError("port 0 is none")
    return Origin(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])


def parse_api_root(url: str) -> ApiRoot:
    """Read the URL of a GitLab, with or without `/api/v4`.

    Raises:
        ConfigurationError: The message says what is wrong, without a password that may be in it.
    """
    text = url.strip()
    try:
        parts = urlsplit(text)
        if not parts.scheme and text:
            raise ValueError(f"it must begin with https:// (did you mean https://{parts.path[:80]}?)")
        origin = parse_origin(parts)
    except ValueError as error:
        raise ConfigurationError(f"not the URL of a GitLab: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("the URL must not hold a user name or password: pass a token instead")
    if parts.query or parts.fragment:
        raise ConfigurationError("the URL must end before any ? or #")
    path = parts.path.rstrip("/")
    if any(part in {"", ".", ".."} for part in path.split("/")[1:]):
        raise ConfigurationError(f"not the URL of a GitLab: odd path {path[:80]!r}")
    if path.endswith("/api/v3"):
        raise ConfigurationError("GitLab answers only to version 4 of its API: leave /api/v3 away")
    prefix = path if path.endswith("/api/v4") else f"{path}/api/v4"
    return ApiRoot(origin, quote(prefix, safe="/%"))


def own_address(root: ApiRoot, address: str) -> str:
    """*address* without the relative root of this installation, so that its path names a target.

    Raises:
        ValueError: The address of another host.
    """
    parts = urlsplit(address.strip())
    try:
        same = parse_origin(parts) == root.origin
    except ValueError:
        same = False
    base = root.prefix.removesuffix("/api/v4")
    if not same or not f"{parts.path}/".startswith(f"{base}/"):
        raise ValueError(f"not an address of {root.web_url}: {safe_url(address)}")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.removeprefix(base), "", ""))


def segment(value: int | str, *, what: str) -> str:
    """One segment of a path, encoded so that it cannot become two.

    Raises:
        ValueError: Empty, `.`, `..`, a slash-separated text with such a part, or a number below 1.
        TypeError: Neither a number nor text.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"a {what} is a number or text, not {type(value).__name__}")
    if isinstance(value, int) and value < 1:
        raise ValueError(f"not a {what}: {value}")
    text = str(value)
    if any(part in {"", ".", ".."} for part in text.split("/")):
        raise ValueError(f"not a {what}: {text[:200]!r}")
    return quote(text, safe="")


def member_path(member: str) -> str:
    """The path of a file inside an archive: each part encoded, slashes kept.

    Raises:
        ValueError: Absolute, or with an empty, `.` or `..` part.
    """
    return "/".join(segment(part, what="path inside an archive") for part in member.split("/"))


def safe_url(url: str) -> str:
    """*url* for people and logs: no userinfo, no fragment, values of unknown query names masked."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    if parts.scheme and not parts.netloc:
        return "(not a URL)"  # `user:password@host` reads as a scheme and a path
    host = f"[{host}]" if ":" in host else host
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(_safe_pair(name, value) for name, value in pairs)
    where = f"{parts.scheme}://{host}{port}{parts.path}" if parts.scheme else parts.path
    return printable(where + (f"?{query}" if query else ""), limit=500)


def _safe_pair(name: str, value: str) -> str:
    # A value with `=` may be two pairs to a server that splits elsewhere; a lone name may be a secret itself.
    if name in _PRINTABLE_QUERY and not {"=", "&", ";"} & set(value):
        return f"{name}={value}"
    return f"{name}=..." if value else "..."


def printable(text: str, *, limit: int = 200) -> str:
    """*text* on one line, without anything that could drive a terminal, cut to *limit* characters."""
    if text.isprintable() and len(text) <= limit and "  " not in text:
        return text.strip()
    clean = "".join(c if c.isprintable() else " " for c in text[: limit * 4])
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."
