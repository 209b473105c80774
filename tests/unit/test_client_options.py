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
