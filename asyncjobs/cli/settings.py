"""The options every command has, and the client they lead to.

They may stand before or after the command's name. No option takes a token: command lines are seen
by every user of a machine and kept in histories, so credentials come from the environment or from
python-gitlab's configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import click

import asyncjobs
from asyncjobs.cli.codes import UsageError
from asyncjobs.cli.params import INTERVAL
from asyncjobs.cli.text import span

_META = "asyncjobs.settings"
"""Where click carries the values from the group to the command."""

_TIMEOUTS = asyncjobs.Timeouts()

TOKEN_VARIABLES = ("GITLAB_TOKEN", "GITLAB_PRIVATE_TOKEN", "GITLAB_OAUTH_TOKEN", "CI_JOB_TOKEN")
"""Where `Client.from_env` looks for a token, in this order."""


@attrs.frozen(kw_only=True)
class Settings:
    """What was asked of every command alike."""

    url: str | None = None
    config_section: str | None = None
    ca_file: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    timeout: float | None = None
    connect_timeout: float | None = None
    attempts: int | None = None
    requests_per_minute: int | None = None
    no_color: bool = False
    quiet: bool = False
    verbose: int = 0

    def client(self) -> asyncjobs.Client:
        """A client for the configured GitLab, with credentials from outside the command line.

        Raises:
            ConfigurationError: Nothing says which GitLab, or what says it is wrong.
            UsageError: An option has a value that the library does not take.
        """
        try:
            return self._client()
        except asyncjobs.ConfigurationError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from None

    def token_advice(self, environ: Mapping[str, str]) -> str:
        """What to do when the server refuses the token, or the lack of one."""
        if self.config_section is not None:
            return f"look at the token of [{self.config_section}] in python-gitlab.cfg"
        name = next((each for each in TOKEN_VARIABLES if environ.get(each)), None)
        if name is None:
            return "set GITLAB_TOKEN"
        if name == "CI_JOB_TOKEN":
            # https://docs.gitlab.com/ci/jobs/ci_job_token/#job-token-access
            return "look at CI_JOB_TOKEN, which opens few things; a GITLAB_TOKEN would be taken before it"
        return f"look at {name}"

    def _client(self) -> asyncjobs.Client:
        options: dict[str, Any] = {}
        if self.timeout is not None or self.connect_timeout is not None:
            options["timeouts"] = self._timeouts()
        if self.requests_per_minute is not None:
            options["limits"] = asyncjobs.Limits(requests_per_minute=self.requests_per_minute)
        if self.attempts is not None:
            options["retry"] = asyncjobs.RetryPolicy(attempts=self.attempts)
        for name in ("url", "ca_file", "client_cert", "proxy"):
            if (value := getattr(self, name)) is not None:
                options[name] = value
        if self.config_section is not None:
            return asyncjobs.Client.from_config(self.config_section, **options)
        return asyncjobs.Client.from_env(**options)

    def _timeouts(self) -> asyncjobs.Timeouts:
        given: dict[str, Any] = {}
        if self.timeout is not None:
            # One number for all silences: whoever types it means "do not let me wait longer than this".
            given |= {"idle": self.timeout, "first_byte": self.timeout, "control_total": self.timeout}
        if self.connect_timeout is not None:
            given["connect"] = self.connect_timeout
        return asyncjobs.Timeouts(**given)


class _GlobalOption(click.Option):
    """An option of every command; its value goes to the settings, not to the command's function."""

    def __init__(self, *names: str, **more: Any) -> None:
        super().__init__(list(names), expose_value=False, callback=self._keep, **more)

    @staticmethod
    def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        given: dict[str, Any] = ctx.meta.setdefault(_META, {})
        assert param.name is not None
        if param.name == "verbose":
            given["verbose"] = given.get("verbose", 0) + value
        elif ctx.get_parameter_source(param.name) is not click.core.ParameterSource.DEFAULT:
            given[param.name] = value


def global_options() -> list[click.Option]:
    """Fresh option objects, for the group or for one command."""
    return [
        _GlobalOption(
            "--url",
            metavar="URL",
            show_default="https://gitlab.com",
            help="Address of the GitLab; else GITLAB_URL, CI_SERVER_URL or CI_API_V4_URL.",
        ),
        _GlobalOption(
            "--config-section",
            metavar="NAME",
            help="Take address and token from this section of python-gitlab.cfg instead of the environment.",
        ),
        _GlobalOption(
            "--ca-file", type=click.Path(exists=True, dir_okay=False), help="Trust these authorities (PEM)."
        ),
        _GlobalOption(
            "--client-cert",
            type=click.Path(exists=True, dir_okay=False),
            help="Client certificate and key (PEM).",
        ),
        _GlobalOption("--proxy", metavar="URL", help="HTTP proxy; else HTTPS_PROXY, HTTP_PROXY, NO_PROXY."),
        _GlobalOption(
            "--timeout",
            type=INTERVAL,
            show_default=span(_TIMEOUTS.idle),
            help="Longest silence of the server before a request is given up.",
        ),
        _GlobalOption(
            "--connect-timeout",
            type=INTERVAL,
            show_default=span(_TIMEOUTS.connect),
            help="Longest wait for a connection.",
        ),
        _GlobalOption(
            "--attempts",
            metavar="N",
            type=click.IntRange(min=1),
            show_default=str(asyncjobs.RetryPolicy().attempts),
            help="How often a read is sent at most.",
        ),
        _GlobalOption(
            "--requests-per-minute",
            metavar="N",
            type=click.IntRange(min=1),
            show_default="what the server allows",
            help="Send no more than this.",
        ),
        _GlobalOption(
            "--no-color", is_flag=True, help="No colours (also NO_COLOR; FORCE_COLOR is the opposite)."
        ),
        _GlobalOption(
            "-q", "--quiet", is_flag=True, help="No news and no bars on standard error, only errors."
        ),
        _GlobalOption(
            "-v", "--verbose", count=True, help="Log each exchange, without secrets; twice: tracebacks too."
        ),
    ]


def settings_of(ctx: click.Context) -> Settings:
    """What the group's and the command's global options said together.

    Raises:
        click.UsageError: Two options that contradict each other.
    """
    given = ctx.meta.get(_META, {})
    if given.get("url") and given.get("config_section"):
        raise click.UsageError("--url and --config-section both name a server; give one of them")
    return Settings(**given)
