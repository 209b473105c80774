"""When a failed request is sent again, after how long, and what that costs.

The whole policy is `decide`: no clock, no sleeping, chance passed in as a number. It is the only
layer that retries (aiohttp's own single resend of an idempotent request on a stale connection
counts as part of one attempt). Full jitter as in the AWS builders' library; the budget that keeps
an outage from being amplified is in `asyncjobs._retry.bucket`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

from asyncjobs._errors import (
    AsyncJobsError,
    CertificateError,
    ConflictError,
    ConnectError,
    ForbiddenAddressError,
    HostNotFoundError,
    OutcomeUnknownError,
    ProtocolError,
    RequestTimeout,
    ResponseError,
    TooManyFilesError,
)
from asyncjobs._models.calls import Kind
from asyncjobs._options import RetryPolicy


class Verdict(StrEnum):
    """What a failure says about trying again."""

    NEVER = "never"
    TRANSIENT = "transient"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"
    """Something may have been changed: neither repeated nor reported as a plain failure."""


RETRIED_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 525)})
UNKNOWN_STATUSES: Final = frozenset({500, 502, 503, 504, *range(520, 525)})
"""After these a write may or may not have happened: a 503 as well, which GitLab sends in the middle of its
work when its Git backend is exhausted. Only one with Retry-After is refused work."""

_WRITE_ATTEMPTS: Final = {Kind.WRITE: 3, Kind.ONCE: 2}
_DNS_ATTEMPTS: Final = 2
_DOWNLOAD_ATTEMPTS_IN_ALL: Final = 100
PROGRESS_BYTES: Final = 1024 * 1024
"""New bytes that make a download start counting its failures afresh."""
_THROTTLED_BASE_SECONDS: Final = 2.0
_THROTTLED_CAP_SECONDS: Final = 60.0
_SPREAD_SECONDS: Final = 5.0
_SPREAD_SHARE: Final = 0.1

COST: Final = 10.0
TIMEOUT_COST: Final = 20.0
GATE_COST: Final = 1.0


def judge(kind: Kind, error: AsyncJobsError) -> Verdict:
    """What *error* means for a call of this kind."""
    if isinstance(error, CertificateError | ForbiddenAddressError | TooManyFilesError | OutcomeUnknownError):
        return Verdict.NEVER
    changes = kind in {Kind.WRITE, Kind.ONCE}
    if isinstance(error, ConnectError):
        return Verdict.TRANSIENT
    if isinstance(error, ProtocolError | RequestTimeout):
        return Verdict.UNKNOWN if changes else Verdict.TRANSIENT
    if not isinstance(error, ResponseError):
        return Verdict.NEVER
    if error.status == 429:
        return Verdict.THROTTLED
    if isinstance(error, ConflictError):
        return Verdict.TRANSIENT if "resource lock" in error.message.lower() else Verdict.NEVER
    if error.status == 503 and error.retry_after is not None:
        return Verdict.THROTTLED
    if changes:
        # A 2xx is an error when its body cannot be read; what was asked for was most likely done.
        open_ = error.status in UNKNOWN_STATUSES or 200 <= error.status < 300
        return Verdict.UNKNOWN if open_ else Verdict.NEVER
    return Verdict.TRANSIENT if error.status in RETRIED_STATUSES else Verdict.NEVER


@attrs.frozen(kw_only=True)
class History:
    """What one call has been through."""

    attempt: int = 1
    """Attempts made without progress, the failed one included."""
    attempts_in_all: int = 1
    slept: float = 0.0
    """Seconds of backoff so far; waiting at a gate is not counted."""
    storage_refusals: int = 0
    """403 answers of an object store, each of which may be an expired link."""


@attrs.frozen
class Decision:
    """What to do after a failure."""

    verdict: Verdict
    wait: float | None = None
    """Seconds until the next attempt, or None to give up."""
    cost: float = 0.0
    """What the next attempt takes from the retry budget."""


def most_attempts(kind: Kind, policy: RetryPolicy) -> int:
    """How often a call of this kind is sent in all."""
    if kind is Kind.POLL:
        return 1  # the polling loop itself is the retry, at its own pace
    return min(policy.attempts, _WRITE_ATTEMPTS.get(kind, policy.attempts))


def decide(
    kind: Kind, error: AsyncJobsError, history: History, policy: RetryPolicy, *, chance: float
) -> Decision:
    """Judge a failure.

    Args:
        kind: How the call may be repeated.
        error: What happened.
        history: What happened before.
        policy: The caller's options.
        chance: A random number from 0 to 1.

    Returns:
        A decision whose `wait` is None when the call must fail now.
    """
    verdict = judge(kind, error)
    expired_link = (
        kind is Kind.DOWNLOAD
        and isinstance(error, ResponseError)
        and error.from_storage
        and error.status == 403
        and history.storage_refusals <= 1
    )
    if expired_link:
        # Signed links live for about ten minutes; the next attempt asks the API for a fresh one.
        return Decision(Verdict.TRANSIENT, 0.0, COST)
    if verdict in {Verdict.NEVER, Verdict.UNKNOWN}:
        return Decision(verdict)
    most = _DNS_ATTEMPTS if isinstance(error, HostNotFoundError) else policy.attempts
    exhausted = history.attempt >= min(most, most_attempts(kind, policy))
    if exhausted or (kind is Kind.DOWNLOAD and history.attempts_in_all >= _DOWNLOAD_ATTEMPTS_IN_ALL):
        return Decision(verdict)
    wait = _wait(verdict, error, history.attempt, policy, chance)
    if wait is None:
        return Decision(verdict)
    asked = isinstance(error, ResponseError) and error.retry_after is not None
    if not asked and policy.deadline is not None and history.slept + wait > policy.deadline:
        return Decision(verdict)
    return Decision(verdict, wait, _cost(verdict, error))


def _wait(
    verdict: Verdict, error: AsyncJobsError, attempt: int, policy: RetryPolicy, chance: float
) -> float | None:
    asked = error.retry_after if isinstance(error, ResponseError) else None
    if asked is not None and policy.max_rate_limit_wait is not None and asked > policy.max_rate_limit_wait:
        return None
    base: float = policy.base
    cap: float = policy.cap
    if verdict is Verdict.THROTTLED:
        base, cap = max(base, _THROTTLED_BASE_SECONDS), max(cap, _THROTTLED_CAP_SECONDS)
    # A float ends at 2**1023, and any cap long before.
    backoff = chance * min(cap, base * 2.0 ** min(attempt - 1, 1000))
    if asked is None:
        return backoff
    # What the server asks for is the least (RFC 9110); everybody was told the same second, hence the spread.
    wait = max(backoff, asked) + chance * min(_SPREAD_SECONDS, _SPREAD_SHARE * asked)
    # Our own part of it must not make a wait too long that the caller is ready for.
    return wait if policy.max_rate_limit_wait is None else min(wait, policy.max_rate_limit_wait)


def _cost(verdict: Verdict, error: AsyncJobsError) -> float:
    if verdict is Verdict.THROTTLED:
        return GATE_COST
    return TIMEOUT_COST if isinstance(error, RequestTimeout) else COST
