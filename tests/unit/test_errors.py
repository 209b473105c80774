"""Errors: each can be printed, pickled and told apart, and groups keep their facts when split."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from asyncjobs import _errors
from asyncjobs._errors import (
    ArtifactMissingError,
    AsyncJobsError,
    BadResponseError,
    ConfigurationError,
    ConnectError,
    ConnectTimeout,
    ExchangeError,
    FanOutError,
    NotFoundError,
    OutcomeUnknownError,
    OutcomeUnknownServerError,
    OutcomeUnreadableError,
    RateLimitedError,
    RequestTimeout,
    ResponseError,
    ServerError,
)
from asyncjobs._models import ProjectRef, TargetFailure


def example(cls: type[AsyncJobsError]) -> AsyncJobsError:
    """One error of a class, with every fact it can carry."""
    if issubclass(cls, FanOutError):
        return cls("2 failed", [ConnectError("x"), NotFoundError("y", status=404)], ["a", "b"])
    if issubclass(cls, ResponseError):
        return cls(
            "404 gone",
            status=404,
            message="gone",
            request_id="01A",
            retry_after=1.5,
            from_storage=True,
            method="GET",
            url="https://a/b",
            attempts=3,
            budget_exhausted=True,
        )
    if issubclass(cls, ExchangeError):
        return cls("broke", method="GET", url="https://a/b", attempts=3, budget_exhausted=True)
    if issubclass(cls, ArtifactMissingError):
        return cls("expired", reason="expired")
    return cls("text")


CLASSES = sorted(
    (
        value
        for value in vars(_errors).values()
        if inspect.isclass(value) and issubclass(value, AsyncJobsError) and value is not AsyncJobsError
    ),
    key=lambda cls: cls.__name__,
)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_errors_travel(cls: type[AsyncJobsError], again: object) -> None:
    """An error goes to another process, and comes back with type, text and facts."""
    assert callable(again)
    error = example(cls)
    back = again(error)
    assert type(back) is cls
    assert str(back) == str(error)
    assert repr(back) == repr(error)
    assert vars(back).keys() == vars(error).keys()
    facts = {
        name: value for name, value in vars(error).items() if isinstance(value, str | int | float | bool)
    }
    assert {name: getattr(back, name) for name in facts} == facts


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_speak(cls: type[AsyncJobsError]) -> None:
    """The text of an error is one line and says something; its repr names its class."""
    error = example(cls)
    assert str(error).strip()
    assert "\n" not in str(error)
    assert repr(error).startswith(cls.__name__)


def test_what_an_exchange_error_says() -> None:
    """What was asked, where, what came, how often, and why not again: in this order, each only when known."""
    assert str(ConnectError("refused")) == "refused"
    assert str(ConnectError("refused", method="GET", url="https://a/b")) == "GET https://a/b: refused"
    assert str(example(NotFoundError)) == (
        "GET https://a/b: 404 gone (after 3 attempts) (not tried again: too many requests are failing)"
    )


def test_what_can_be_caught_together() -> None:
    """Errors with two natures are caught by either name."""
    assert issubclass(ConnectTimeout, ConnectError)
    assert issubclass(ConnectTimeout, RequestTimeout)
    assert issubclass(OutcomeUnknownServerError, OutcomeUnknownError)
    assert issubclass(OutcomeUnknownServerError, ServerError)
    assert issubclass(OutcomeUnreadableError, OutcomeUnknownError)
    assert issubclass(OutcomeUnreadableError, BadResponseError)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(FanOutError, ExceptionGroup)


def test_a_group_is_split_with_its_failures() -> None:
    """`except*` takes some errors out of a fan-out; each part keeps the failures of its own errors."""
    gone = NotFoundError("x", status=404)
    busy = RateLimitedError("y", status=429)
    failures = [TargetFailure(ProjectRef(1), gone), TargetFailure(ProjectRef(2), busy)]
    group = FanOutError("2 failed", [gone, busy], failures)
    missing, rest = group.split(NotFoundError)
    assert isinstance(missing, FanOutError)
    assert isinstance(rest, FanOutError)
    assert [failure.target for failure in missing.failures] == [ProjectRef(1)]
    assert [failure.target for failure in rest.failures] == [ProjectRef(2)]
    assert group.subgroup(ServerError) is None
