"""One call's way through its failures: asks the policy, pays the budget, sleeps or closes the gate."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from asyncjobs._clock import Clock
from asyncjobs._concurrency import Lifetime
from asyncjobs._errors import (
    AsyncJobsError,
    ExchangeError,
    OutcomeUnknownError,
    OutcomeUnknownServerError,
    OutcomeUnreadableError,
    ResponseError,
)
from asyncjobs._models.calls import EndpointClass, Kind
from asyncjobs._options import RetryPolicy
from asyncjobs._retry.bucket import RetryBucket
from asyncjobs._retry.policy import PROGRESS_BYTES, History, Verdict, decide


class Attempts:
    """The retries of one call: the only layer that retries. Features that stream drive it themselves."""

    def __init__(
        self,
        kind: Kind,
        endpoint: EndpointClass,
        *,
        call: str,
        policy: RetryPolicy,
        clock: Clock,
        chance: random.Random,
        api_bucket: RetryBucket,
        storage_bucket: RetryBucket,
        close_gate: Callable[[EndpointClass, float], None],
        lifetime: Lifetime,
    ) -> None:
        self._kind = kind
        self._endpoint = endpoint
        self._call = call
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._api_bucket = api_bucket
        self._storage_bucket = storage_bucket
        self._close_gate = close_gate
        self._lifetime = lifetime
        self._history = History()
        self._progress = 0
        self._resumed = False

    @property
    def number(self) -> int:
        """The attempt under way, counted from 1 over the whole call."""
        return self._history.attempts_in_all

    def progress(self, new_bytes: int) -> None:
        """Note new bytes of a body: after 1 MiB of them, failures are counted afresh."""
        self._progress += new_bytes
        if self._progress >= PROGRESS_BYTES:
            self._progress = 0
            self._resumed = True
            self._history = attrs.evolve(self._history, attempt=1, slept=0.0, storage_refusals=0)

    async def failed(self, error: AsyncJobsError) -> None:
        """Wait until the call may be tried again.

        Raises:
            AsyncJobsError: *error* itself, with the number of attempts in it, when it may not; or
                `OutcomeUnknownError` when something may have been changed.
            ClosedError: It might have been tried again, but the client was closed.

        Cancellation: ends the wait at once.
        """
        storage = isinstance(error, ResponseError) and error.from_storage
        if storage and isinstance(error, ResponseError) and error.status == 403:
            refusals = self._history.storage_refusals + 1
            self._history = attrs.evolve(self._history, storage_refusals=refusals)
        decision = decide(self._kind, error, self._history, self._policy, chance=self._chance.random())
        if decision.verdict is Verdict.UNKNOWN:
            raise self._unknown(error)
        if decision.verdict is Verdict.THROTTLED and isinstance(error, ResponseError):
            # Everybody else learns it as well, whether this call goes on or not.
            self._close_gate(self._endpoint, decision.wait or error.retry_after or 0.0)
        if decision.verdict is not Verdict.NEVER:
            # Closing breaks connections, and that must not look like the server's fault.
            self._lifetime.check()
        if decision.wait is None:
            raise self._final(error)
        bucket = self._storage_bucket if storage else self._api_bucket
        if not bucket.take(0.0 if self._resumed else decision.cost):
            raise self._final(error, exhausted=True)
        self._resumed = False
        slept = 0.0 if decision.verdict is Verdict.THROTTLED else decision.wait
        self._history = attrs.evolve(
            self._history,
            attempt=self._history.attempt + 1,
            attempts_in_all=self._history.attempts_in_all + 1,
            slept=self._history.slept + slept,
        )
        if slept > 0.0:
            await self._clock.sleep(slept)

    def _final(self, error: AsyncJobsError, *, exhausted: bool = False) -> AsyncJobsError:
        """*error* with what this call knows added to it."""
        if isinstance(error, ExchangeError):
            error.attempts = self.number
            error.budget_exhausted = exhausted
        return error

    def _unknown(self, error: AsyncJobsError) -> AsyncJobsError:
        assert isinstance(error, ExchangeError)
        what = "it may or may not have happened"
        if isinstance(error, ResponseError) and error.status < 300:
            what = f"answered {error.status}, so most likely it was done, but the answer cannot be read"
        reason = f"{self._call}: {what} ({error.reason}); look before trying again, with get_job"
        if isinstance(error, ResponseError):
            unknown = OutcomeUnreadableError if error.status < 300 else OutcomeUnknownServerError
            return unknown(
                reason,
                status=error.status,
                message=error.message,
                request_id=error.request_id,
                method=error.method,
                url=error.url,
                attempts=self.number,
            )
        return OutcomeUnknownError(reason, method=error.method, url=error.url, attempts=self.number)
