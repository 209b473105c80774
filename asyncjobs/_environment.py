"""The process environment and the configuration files people have: read once, turned into settings.

The only room that looks at `os.environ`. netrc and cookies are never read. The files are those of
python-gitlab: https://python-gitlab.readthedocs.io/en/stable/cli-usage.html#configuration-file-format
"""

from __future__ import annotations

import configparser
import math
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import attrs

from asyncjobs._errors import ConfigurationError

_URL_VARIABLES = ("GITLAB_URL", "CI_SERVER_URL", "CI_API_V4_URL")
_TOKEN_VARIABLES = (
    ("GITLAB_TOKEN", "private_token"),
    ("GITLAB_PRIVATE_TOKEN", "private_token"),
    ("GITLAB_OAUTH_TOKEN", "oauth_token"),
    ("CI_JOB_TOKEN", "job_token"),
)
_CONFIG_PATHS = ("/etc/python-gitlab.cfg", "~/.config/python-gitlab.cfg", "~/.python-gitlab.cfg")
_CONFIG_TOKENS = ("private_token", "oauth_token", "job_token")
_HELPER_PREFIX = "helper:"
_HELPER_SECONDS = 30
_DEFAULT_URL = "https://gitlab.com"


@attrs.frozen(kw_only=True)
class Settings:
    """What a client is made of; the token is never part of the repr."""

    url: str
    token_kind: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    timeout: float | None = None
    """Seconds for one control request."""
    verify: bool = True
    ca_file: str | None = None


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read URL and token from the variables GitLab CI and other tools use.

    The URL is the first of GITLAB_URL, CI_SERVER_URL, CI_API_V4_URL (else gitlab.com), the token
    the first of GITLAB_TOKEN, GITLAB_PRIVATE_TOKEN, GITLAB_OAUTH_TOKEN, CI_JOB_TOKEN. Empty ones
    count as absent.
    """
    url = next((environment[name] for name in _URL_VARIABLES if environment.get(name)), _DEFAULT_URL)
    for name, kind in _TOKEN_VARIABLES:
        if environment.get(name):
            return Settings(url=url, token_kind=kind, token=environment[name])
    return Settings(url=url)


def proxy_variables(environment: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Proxies by scheme, and the hosts excepted; lower-case names win, as in curl.

    `HTTP_PROXY` in capitals is ignored inside CGI, where a client of the web server could set it.
    """
    found: dict[str, str] = {}
    for scheme in ("http", "https", "all"):
        capital = "" if scheme == "http" and "REQUEST_METHOD" in environment else f"{scheme.upper()}_PROXY"
        value = environment.get(f"{scheme}_proxy") or environment.get(capital, "")
        if value:
            found[scheme] = value
    excepted = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    return found, tuple(name.strip().lower() for name in excepted.split(",") if name.strip())


def from_config(
    section: str | None, environment: Mapping[str, str], *, paths: tuple[str, ...] = _CONFIG_PATHS
) -> Settings:
    """Read a section of python-gitlab's configuration files.

    `PYTHON_GITLAB_CFG` names one file in place of the usual ones; without *section* the default of
    `[global]` is taken.

    Raises:
        ConfigurationError: No file, no such section, or a value that cannot be used.
    """
    chosen = environment.get("PYTHON_GITLAB_CFG")
    candidates = [Path(chosen)] if chosen else [Path(path).expanduser() for path in paths]
    parser = configparser.ConfigParser(interpolation=None)
    try:
        read = parser.read(candidates, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        line = getattr(error, "lineno", None)
        where = f" near line {line}" if line else ""
        raise ConfigurationError(f"a python-gitlab configuration file cannot be read{where}") from None
    if not read:
        raise ConfigurationError(f"no configuration file: looked for {', '.join(map(str, candidates))}")
    name = section or parser.get("global", "default", fallback=None)
    if name is None:
        raise ConfigurationError(f"{read[0]} names no default section: pass one of {_sections(parser)}")
    if not parser.has_section(name):
        raise ConfigurationError(f"{', '.join(read)} has no section [{name}]; it has {_sections(parser)}")
    return _settings(parser, name)


def _sections(parser: configparser.ConfigParser) -> str:
    return ", ".join(name for name in parser.sections() if name != "global") or "none"


def _settings(parser: configparser.ConfigParser, name: str) -> Settings:
    url = parser.get(name, "url", fallback=None)
    if url is None:
        raise ConfigurationError(f"section [{name}] has no url")
    kind = next((each for each in _CONFIG_TOKENS if parser.get(name, each, fallback="")), None)
    token = None if kind is None else parser.get(name, kind)
    if token is not None and token.startswith(_HELPER_PREFIX):
        token = _helper(token.removeprefix(_HELPER_PREFIX), name)
    verify, ca_file = _verify(_either(parser, name, "ssl_verify") or "true")
    timeout = _either(parser, name, "timeout")
    try:
        seconds = None if timeout is None else float(timeout)
    except ValueError:
        seconds = math.nan
    if seconds is not None and not 0.0 < seconds < math.inf:
        raise ConfigurationError(f"timeout of section [{name}] is not a number of seconds above 0")
    return Settings(url=url, token_kind=kind, token=token, timeout=seconds, verify=verify, ca_file=ca_file)


def _either(parser: configparser.ConfigParser, name: str, key: str) -> str | None:
    return parser.get(name, key, fallback=parser.get("global", key, fallback=None))


def _verify(value: str) -> tuple[bool, str | None]:
    lowered = value.strip().lower()
    if lowered in {"true", "yes", "on", "1"}:
        return True, None
    if lowered in {"false", "no", "off", "0"}:
        return False, None
    return True, os.path.expanduser(value.strip())  # noqa: PTH111 -- stays the text the user wrote


def _helper(command: str, section: str) -> str:
    """Run a credential helper, as python-gitlab does, without a shell."""
    try:
        done = subprocess.run(  # noqa: S603 -- the user's own configuration names the command
            [os.path.expanduser(part) for part in shlex.split(command)],  # noqa: PTH111
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:  # Index: no command at all
        kind = type(error).__name__
    else:
        return done.stdout.strip()
    raise ConfigurationError(f"the credential helper of section [{section}] failed ({kind})")
