"""The retry policy at a glance: what is sent again, after how long, and what it costs.

`retry_policy.txt` beside this file is the whole policy, written by this test from the code. When
the policy changes on purpose: `ASYNCJOBS_UPDATE_GOLDEN=1 pytest tests/unit/test_retry_policy.py`,
and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs._errors import (
    ArtifactError,
    AsyncJobsError,
    BadResponseError,
    CertificateError,
    ClosedError,
    ConnectError,
    ConnectTimeout,
    ForbiddenAddressError,
    HostNotFoundError,
    OutcomeUnknownError,
    ProtocolError,
    RedirectError,
    RequestTimeout,
    ResponseError,
    TooManyFilesError,
    TruncatedBodyError,
)
from asyncjobs._models.calls import Kind
from asyncjobs._options import RetryPolicy
from asyncjobs._protocol.answers import error_class
from asyncjobs._retry.bucket import CAPACITY, RetryBucket
from asyncjobs._retry.policy import (
    COST,
    TIMEOUT_COST,
    Decision,
    History,
    Verdict,
    decide,
    judge,
    most_attempts,
)

GOLDEN = Path(__file__).with_name("retry_policy.txt")
POLICY = RetryPolicy()
METHODS = {
    "GET, read": Kind.READ,
    "GET, download": Kind.DOWNLOAD,
    "GET, poll": Kind.POLL,
    "POST cancel, keep": Kind.WRITE,
    "DELETE": Kind.WRITE,
    "POST retry, play, erase": Kind.ONCE,
}
WITHOUT_STATUS: list[tuple[str, AsyncJobsError]] = [
    ("connection refused", ConnectError("x")),
    ("name not found", HostNotFoundError("x")),
    ("connect timeout", ConnectTimeout("x")),
    ("certificate refused", CertificateError("x")),
    ("redirect to a local address", ForbiddenAddressError("x")),
    ("no file descriptor left", TooManyFilesError("x")),
    ("silence", RequestTimeout("x")),
    ("connection broken, malformed answer", ProtocolError("x")),
    ("body cut", TruncatedBodyError("x")),
    ("outcome already unknown", OutcomeUnknownError("x")),
    ("wrong JSON or HTML", BadResponseError("x", status=200)),
    ("refused redirect", RedirectError("x", status=302)),
    ("409 with 'Resource lock'", error_class(409)("x", status=409, message="409 Conflict: Resource lock")),
    ("403 of an object store", error_class(403)("x", status=403, from_storage=True)),
    ("client closed", ClosedError("x")),
    ("archive damaged", ArtifactError("x")),
]


def response(status: int, retry_after: float | None = None) -> ResponseError:
    """The error of a plain answer."""
    return error_class(status)("x", status=status, retry_after=retry_after)


def attempts_of(kind: Kind, error: AsyncJobsError) -> list[Decision]:
    """Decisions until the call gives up, with the middle of every random interval."""
    decisions: list[Decision] = []
    history = History()
    storage = isinstance(error, ResponseError) and error.from_storage and error.status == 403
    while len(decisions) < 200:
        refusals = history.storage_refusals + storage
        history = History(
            attempt=history.attempt,
            attempts_in_all=history.attempts_in_all,
            slept=history.slept,
            storage_refusals=refusals,
        )
        decision = decide(kind, error, history, POLICY, chance=0.5)
        decisions.append(decision)
        if decision.wait is None:
            break
        history = History(
            attempt=history.attempt + 1,
            attempts_in_all=history.attempts_in_all + 1,
            slept=history.slept + decision.wait,
            storage_refusals=refusals,
        )
    return decisions


def in_words(kind: Kind, error: AsyncJobsError) -> str:
    """One line: how often it is sent, with which waits, and what comes out."""
    decisions = attempts_of(kind, error)
    end = "outcome unknown" if decisions[-1].verdict is Verdict.UNKNOWN else "error"
    waits = [f"{each.wait:g}" for each in decisions if each.wait is not None]
    if not waits:
        return f"sent once, {end}"
    cost = {each.cost for each in decisions if each.wait is not None}
    costs = "/".join(f"{each:g}" for each in sorted(cost))
    return f"sent {len(decisions)} times, waits {' '.join(waits)} s, costs {costs}, {end}"


def ranges(statuses: list[int]) -> str:
    """`100-407 409-424`."""
    found: list[list[int]] = []
    for status in statuses:
        if found and found[-1][1] == status - 1:
            found[-1][1] = status
        else:
            found.append([status, status])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def policy_text() -> Iterator[str]:
    """The whole policy, grouped by what happens."""
    yield "Waits are the middle of their random interval; seconds. Costs are tokens of the retry budget."
    told: dict[Kind, str] = {}
    for name, kind in METHODS.items():
        yield ""
        if kind in told:
            yield f"{name}  (as {told[kind]})"
            continue
        told[kind] = name
        yield f"{name}  (at most {most_attempts(kind, POLICY)} times)"
        for retry_after, label in ((None, ""), (7.0, ", Retry-After: 7"), (301.0, ", Retry-After: 301")):
            groups: dict[str, list[int]] = {}
            for status in range(100, 600):
                groups.setdefault(in_words(kind, response(status, retry_after)), []).append(status)
            for words, statuses in sorted(groups.items(), key=lambda item: item[1][0]):
                yield f"  {ranges(statuses)}{label}: {words}"
        failures: dict[str, list[str]] = {}
        for what, error in WITHOUT_STATUS:
            failures.setdefault(in_words(kind, error), []).append(what)
        for words, names in failures.items():
            yield f"  {'; '.join(names)}: {words}"


def test_the_whole_policy() -> None:
    """Method x status 100-599 x Retry-After, and every failure without a status, is as written down."""
    text = "\n".join(policy_text()) + "\n"
    if os.environ.get("ASYNCJOBS_UPDATE_GOLDEN"):
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")


def test_nothing_that_changes_something_is_repeated_on_doubt() -> None:
    """A write is sent again only when it surely was not executed: by a 429, or a 503 with Retry-After."""
    for kind in (Kind.WRITE, Kind.ONCE):
        for status in range(100, 600):
            for retry_after in (None, 7.0):
                again = (
                    decide(kind, response(status, retry_after), History(), POLICY, chance=0.5).wait
                    is not None
                )
                assert again == (status == 429 or (status == 503 and retry_after is not None))
        for error in (ProtocolError("x"), TruncatedBodyError("x"), RequestTimeout("x"), response(502)):
            assert judge(kind, error) is Verdict.UNKNOWN


# -- backoff --------------------------------------------------------------------------------------

CHANCE = st.floats(0, 1, exclude_max=True)


@given(CHANCE, st.integers(1, 4))
def test_backoff_of_a_transient_failure(chance: float, attempt: int) -> None:
    """Full jitter: from nothing to `min(20, 0.5 * 2**(n-1))` seconds."""
    wait = decide(Kind.READ, response(502), History(attempt=attempt), POLICY, chance=chance).wait
    assert wait is not None
    assert 0 <= wait <= min(20.0, 0.5 * 2 ** (attempt - 1))


@given(CHANCE, st.integers(1, 19))
def test_backoff_when_throttled(chance: float, attempt: int) -> None:
    """A 429 without a figure starts at 2 seconds and goes to 60 at the most."""
    policy = RetryPolicy(attempts=20)
    wait = decide(Kind.READ, response(429), History(attempt=attempt), policy, chance=chance).wait
    assert wait == chance * min(60.0, 2.0 * 2 ** (attempt - 1))


@given(CHANCE, st.floats(0, 300))
def test_retry_after_is_the_least(chance: float, asked: float) -> None:
    """What the server asks for is waited at the least, and at most 5 seconds or a tenth more."""
    wait = decide(Kind.READ, response(429, asked), History(), POLICY, chance=chance).wait
    assert wait is not None
    assert asked <= wait <= max(2.0, asked) + min(5.0, 0.1 * asked)


@given(st.floats(300.001, 1e9), CHANCE)
def test_too_long_a_wait_is_an_error_at_once(asked: float, chance: float) -> None:
    """More than `max_rate_limit_wait` is not slept; without that limit it is."""
    assert decide(Kind.READ, response(429, asked), History(), POLICY, chance=chance).wait is None
    patient = RetryPolicy(max_rate_limit_wait=None)
    assert (decide(Kind.READ, response(429, asked), History(), patient, chance=chance).wait or 0) >= asked


@given(
    st.integers(1, 10_000),
    st.floats(0.001, 1e6),
    st.floats(0.001, 1e6),
    st.integers(1, 100_000),
    CHANCE,
)
def test_no_option_breaks_the_backoff(
    attempts: int, base: float, cap: float, attempt: int, chance: float
) -> None:
    """With any options, after any number of attempts, a wait is a number within the cap."""
    policy = RetryPolicy(attempts=attempts, base=base, cap=cap, deadline=None)
    wait = decide(Kind.READ, response(502), History(attempt=attempt), policy, chance=chance).wait
    assert (wait is None) == (attempt >= attempts)
    assert wait is None or 0 <= wait <= cap


def test_the_deadline_counts_sleeping() -> None:
    """A wait that would pass `deadline` in all is not begun; what the server asks for does not count."""
    slept = History(attempt=2, slept=119.9)
    assert decide(Kind.READ, response(502), slept, POLICY, chance=0.0).wait is not None
    assert decide(Kind.READ, response(502), slept, POLICY, chance=0.9).wait is None
    assert decide(Kind.READ, response(503, 30.0), slept, POLICY, chance=0.9).wait is not None
    assert decide(Kind.READ, response(502), slept, RetryPolicy(deadline=None), chance=0.9).wait is not None
    for deadline, wait in ((8.0, 8.0), (7.9, None)):
        policy = RetryPolicy(base=8.0, deadline=deadline)
        assert decide(Kind.READ, response(502), History(), policy, chance=1.0).wait == wait


def test_downloads_end_after_a_hundred_attempts() -> None:
    """A download that makes progress and fails for ever is given up all the same."""
    assert (
        decide(Kind.DOWNLOAD, TruncatedBodyError("x"), History(attempts_in_all=99), POLICY, chance=0.5).wait
        is not None
    )
    assert (
        decide(Kind.DOWNLOAD, TruncatedBodyError("x"), History(attempts_in_all=100), POLICY, chance=0.5).wait
        is None
    )


def test_one_attempt_means_one() -> None:
    """`attempts=1` switches retrying off for every kind."""
    for kind in Kind:
        assert decide(kind, response(502), History(), RetryPolicy(attempts=1), chance=0.5).wait is None


# -- the bucket -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [response(503), RequestTimeout("x"), ConnectError("x")], ids=["503", "timeout", "refused"]
)
def test_an_outage_is_not_amplified(error: AsyncJobsError) -> None:
    """While a server is down for long, at most a tenth more is sent than was wanted, and 20 to begin with."""
    bucket = RetryBucket()
    wanted, sent = 10_000, 0
    for _ in range(wanted):
        history = History()
        while True:
            sent += 1
            decision = decide(Kind.READ, error, history, POLICY, chance=0.5)
            if decision.wait is None or not bucket.take(decision.cost):
                break
            history = History(attempt=history.attempt + 1, attempts_in_all=history.attempts_in_all + 1)
    assert sent <= 1.1 * wanted + 20
    assert sent > wanted


def test_twenty_retries_at_once() -> None:
    """A full budget pays for twenty retries or ten after silence, and for nothing more."""
    for cost, paid in ((COST, 20), (TIMEOUT_COST, 10)):
        bucket = RetryBucket()
        assert [bucket.take(cost) for _ in range(paid + 1)] == [True] * paid + [False]


def test_a_server_that_fails_half_the_time() -> None:
    """Over a long time one retry in ten successes is paid for, whatever fails in between."""
    bucket = RetryBucket()
    good, retried = 10_000, 0
    for _ in range(good):
        retried += bucket.take(COST)
        bucket.succeeded()
    assert good / 10 <= retried <= good / 10 + 20


@given(st.lists(st.sampled_from(["ok", "retry", "timeout"]), max_size=400))
def test_the_bucket_settles_at_a_tenth(events: list[str]) -> None:
    """Whatever happens, retries cost no more than what was there and what successes gave back."""
    bucket = RetryBucket()
    good = retried = 0
    for event in events:
        if event == "ok":
            good += 1
            bucket.succeeded()
        elif bucket.take(COST if event == "retry" else TIMEOUT_COST):
            retried += 1
        assert 0 <= bucket.tokens <= CAPACITY
    assert retried <= 20 + good / 10
