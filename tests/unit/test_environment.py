"""Environment: which variable, file and section wins, and what is said when none will do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asyncjobs._environment import Settings, from_config, from_environment, proxy_variables
from asyncjobs._errors import ConfigurationError

CANARY = "glpat-CANARY_0123456789"


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "https://gitlab.com"),
        (
            {"GITLAB_URL": "https://a", "CI_SERVER_URL": "https://b", "CI_API_V4_URL": "https://c"},
            "https://a",
        ),
        ({"GITLAB_URL": "", "CI_SERVER_URL": "https://b", "CI_API_V4_URL": "https://c"}, "https://b"),
        ({"CI_API_V4_URL": "https://c/api/v4"}, "https://c/api/v4"),
    ],
)
def test_which_url(variables: dict[str, str], url: str) -> None:
    """GITLAB_URL, then CI's two, then gitlab.com; an empty variable is none."""
    assert from_environment(variables).url == url


@pytest.mark.parametrize(
    ("variables", "kind", "token"),
    [
        ({}, None, None),
        ({"GITLAB_TOKEN": "a"}, "private_token", "a"),
        ({"GITLAB_PRIVATE_TOKEN": "b", "GITLAB_TOKEN": "a"}, "private_token", "a"),
        ({"GITLAB_TOKEN": "a", "CI_JOB_TOKEN": "j"}, "private_token", "a"),
        ({"GITLAB_OAUTH_TOKEN": "o", "CI_JOB_TOKEN": "j"}, "oauth_token", "o"),
        ({"GITLAB_TOKEN": "", "CI_JOB_TOKEN": "j"}, "job_token", "j"),
    ],
)
def test_which_token(variables: dict[str, str], kind: str | None, token: str | None) -> None:
    """A person's own token wins over the job's, and each kind is told apart."""
    settings = from_environment(variables)
    assert (settings.token_kind, settings.token) == (kind, token)


def test_settings_print_no_token() -> None:
    """Settings may be logged."""
    settings = Settings(url="https://a", token_kind="private_token", token=CANARY)
    assert CANARY not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("variables", "proxies", "excepted"),
    [
        ({}, {}, ()),
        ({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:1"}, {"https": "http://p:1"}, ()),
        ({"HTTPS_PROXY": "http://q:1"}, {"https": "http://q:1"}, ()),
        ({"HTTP_PROXY": "http://q:1"}, {"http": "http://q:1"}, ()),
        ({"HTTP_PROXY": "http://q:1", "REQUEST_METHOD": "GET"}, {}, ()),
        ({"http_proxy": "http://q:1", "REQUEST_METHOD": "GET"}, {"http": "http://q:1"}, ()),
        ({"ALL_PROXY": "http://q:1"}, {"all": "http://q:1"}, ()),
        ({"https_proxy": "", "HTTPS_PROXY": ""}, {}, ()),
        ({"no_proxy": "A.example, .b.example ,,*"}, {}, ("a.example", ".b.example", "*")),
        ({"no_proxy": "a", "NO_PROXY": "b"}, {}, ("a",)),
        ({"NO_PROXY": "b"}, {}, ("b",)),
    ],
)
def test_proxies(variables: dict[str, str], proxies: dict[str, str], excepted: tuple[str, ...]) -> None:
    """Lower-case names win, as in curl; HTTP_PROXY is not believed inside CGI."""
    assert proxy_variables(variables) == (proxies, excepted)


# -- python-gitlab's files ------------------------------------------------------------------------

CONFIG = f"""
[global]
default = work
ssl_verify = true
timeout = 5

[work]
url = https://gitlab.example.com
private_token = {CANARY}
timeout = 7.5
ssl_verify = ~/ca.pem

[home]
url = https://home.example.com
job_token = j100%%j
ssl_verify = false

[oauth]
url = https://gitlab.example.com
oauth_token = {CANARY}

[anonymous]
url = https://gitlab.com
api_version = 4

[broken]
private_token = {CANARY}

[slow]
url = https://gitlab.com
timeout = {{timeout}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration file as python-gitlab documents it."""
    path = tmp_path / "python-gitlab.cfg"
    path.write_text(CONFIG, "utf-8")
    return path


def read(path: Path, section: str | None = None) -> Settings:
    """The settings of one file."""
    return from_config(section, {"PYTHON_GITLAB_CFG": str(path)}, paths=())


def test_the_default_section(config: Path) -> None:
    """Without a section the file's own default is taken; its own values win over the global ones."""
    settings = read(config)
    assert (settings.url, settings.token_kind, settings.token) == (
        "https://gitlab.example.com",
        "private_token",
        CANARY,
    )
    assert settings.timeout == 7.5
    assert settings.verify
    assert settings.ca_file is not None
    assert settings.ca_file.endswith("/ca.pem")
    assert "~" not in settings.ca_file


def test_other_sections(config: Path) -> None:
    """Each kind of token is known, percent signs mean themselves, and global values fill the gaps."""
    home = read(config, "home")
    assert (home.token_kind, home.token, home.timeout) == ("job_token", "j100%%j", 5.0)
    assert (home.verify, home.ca_file) == (False, None)
    assert read(config, "oauth").token_kind == "oauth_token"
    anonymous = read(config, "anonymous")
    assert (anonymous.token_kind, anonymous.token, anonymous.verify) == (None, None, True)


@pytest.mark.parametrize(
    ("text", "verify", "ca_file"),
    [
        ("true", True, None),
        ("Yes", True, None),
        ("1", True, None),
        ("FALSE", False, None),
        ("0", False, None),
        ("/etc/ca.pem", True, "/etc/ca.pem"),
    ],
)
def test_ssl_verify(tmp_path: Path, text: str, verify: bool, ca_file: str | None) -> None:
    """`ssl_verify` is a yes, a no, or the path of an authority."""
    path = tmp_path / "a.cfg"
    path.write_text(f"[a]\nurl = https://a\nssl_verify = {text}\n", "utf-8")
    settings = read(path, "a")
    assert (settings.verify, settings.ca_file) == (verify, ca_file)


def test_later_files_win(tmp_path: Path) -> None:
    """The system's file is read first and the user's own over it, missing ones aside."""
    system, own = tmp_path / "system.cfg", tmp_path / "own.cfg"
    system.write_text("[global]\ndefault = a\n[a]\nurl = https://a\nprivate_token = one\n", "utf-8")
    own.write_text("[a]\nprivate_token = two\n", "utf-8")
    settings = from_config(None, {}, paths=(str(system), str(tmp_path / "none.cfg"), str(own)))
    assert (settings.url, settings.token) == ("https://a", "two")


def test_a_credential_helper(tmp_path: Path) -> None:
    """`helper:` runs a command without a shell and takes what it prints."""
    helper = tmp_path / "helper"
    helper.write_text(f"#!{sys.executable}\nimport sys\nprint({CANARY!r} + ''.join(sys.argv[1:]))\n", "utf-8")
    helper.chmod(0o755)
    path = tmp_path / "a.cfg"
    path.write_text(f'[a]\nurl = https://a\nprivate_token = helper: {helper} "$HOME; x"\n', "utf-8")
    assert read(path, "a").token == f"{CANARY}$HOME; x"


@pytest.mark.parametrize("command", ["/nowhere/helper", "false", "'", ""])
def test_a_helper_that_fails(tmp_path: Path, command: str) -> None:
    """A helper that is missing or fails is named by its section."""
    path = tmp_path / "a.cfg"
    path.write_text(f"[a]\nurl = https://a\nprivate_token = helper:{command}\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"helper of section \[a\] failed"):
        read(path, "a")


@pytest.mark.parametrize(
    ("section", "says"), [("nowhere", "work, home, oauth"), ("broken", r"section \[broken\] has no url")]
)
def test_a_section_that_will_not_do(config: Path, section: str, says: str) -> None:
    """A section that is missing or incomplete is named, with those there are, and no token."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        read(config, section)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("timeout", ["soon", "0", "-1", "nan", "inf", ""])
def test_a_timeout_that_is_none(tmp_path: Path, timeout: str) -> None:
    """A timeout must be a number of seconds above 0."""
    path = tmp_path / "a.cfg"
    path.write_text(CONFIG.replace("{timeout}", timeout), "utf-8")
    with pytest.raises(ConfigurationError, match=r"timeout of section \[slow\]"):
        read(path, "slow")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no default section: pass one of none"),
        (f"private_token = {CANARY}", "cannot be read near line 1"),
        (f"[a]\nurl = https://a\n[a]\nprivate_token = {CANARY}", "cannot be read near line 3"),
        ("[a]\nurl = https://a\n", "names no default section: pass one of a"),
    ],
)
def test_a_file_that_will_not_do(tmp_path: Path, text: str, says: str) -> None:
    """A file that cannot be read as configuration is an error with the line, not with its content."""
    path = tmp_path / "a.cfg"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=says) as caught:
        read(path)
    assert CANARY not in str(caught.value)


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    """A file that is not UTF-8 is an error as well."""
    path = tmp_path / "a.cfg"
    path.write_bytes(b"[a]\nurl = \xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read(path)


def test_no_file(tmp_path: Path) -> None:
    """Without any file the places that were looked at are named."""
    with pytest.raises(ConfigurationError, match=r"none\.cfg"):
        read(tmp_path / "none.cfg")
    with pytest.raises(ConfigurationError, match=r"other\.cfg"):
        from_config(None, {}, paths=(str(tmp_path / "other.cfg"),))
