"""What a client refuses when it is built: each mistake is told at once, by the name of its argument."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs import Client, ConfigurationError

URL = "https://gitlab.example.com"


@pytest.mark.parametrize("name", ["limits", "timeouts", "retry"])
@pytest.mark.parametrize("value", [5, {"attempts": 3}, "fast"])
def test_options_of_another_type(name: str, value: object) -> None:
    """A mapping or a number in place of an options object is not carried along until it breaks something."""
    given: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=name):
        Client(URL, **given)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00", "a\x7f", "bücher/1"])
def test_a_user_agent_is_one_line(value: str) -> None:
    """No header can be smuggled in through the name of the program."""
    with pytest.raises(ConfigurationError, match="user_agent"):
        Client(URL, user_agent=value)


@pytest.mark.parametrize("value", [None, 5, b"https://gitlab.example.com"])
def test_an_address_is_text(value: Any) -> None:
    """`Client(os.environ.get("X"))` without the variable says what is wrong."""
    with pytest.raises(ConfigurationError, match="url must be text"):
        Client(value)


@pytest.mark.parametrize("value", ["", "x", "socks5://proxy.example:1080", "user:CANARY@proxy", 3128])
def test_a_proxy_is_an_address(value: Any) -> None:
    """What is no http or https proxy is told when the client is built, without its password."""
    with pytest.raises(ConfigurationError, match=r"^the proxy must be an http") as caught:
        Client(URL, proxy=value)
    assert "CANARY" not in str(caught.value)


def test_a_proxy_of_the_environment_is_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that holds no proxy is named; one that is not passed as an option may be anybody's."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "socks5://user:CANARY@proxy.example:1080")
    with pytest.raises(ConfigurationError, match=r"^https_proxy in the environment must be ") as caught:
        Client(URL)
    assert "CANARY" not in str(caught.value)
    Client(URL, proxy="proxy.example:3128")
