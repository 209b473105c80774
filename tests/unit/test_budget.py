"""The budget on virtual time: permission that is granted, taken back, and never used after a closing."""

from __future__ import annotations

import asyncio
import random

from asyncjobs import Limits
from asyncjobs._api import Budget
from asyncjobs._clock import SystemClock
from asyncjobs._concurrency import Lane
from asyncjobs._models.calls import EndpointClass
from asyncjobs._retry.gate import Passage

JOB = EndpointClass.OTHER


def new_budget(limits: Limits | None = None) -> Budget:
    """A budget on the loop's time."""
    return Budget(limits or Limits(), SystemClock(), random.Random(7))


def enter(budget: Budget) -> asyncio.Task[Passage]:
    """Somebody who wants to send."""
    return asyncio.create_task(budget.enter(JOB, Lane.CONTROL, None))


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_permission_given_in_the_turn_of_a_closing_is_not_used() -> None:
    """Let through and shut out in one turn of the loop: the caller waits, and is the one probe later."""
    budget = new_budget()
    gate = budget._gates[JOB]
    budget.close(JOB, 10.0)
    probe, second = enter(budget), enter(budget)
    budget.answered(JOB, await probe, failing=False)
    # `second` has its passage and did not run yet.
    budget.close(JOB, 20.0)
    closed = now()
    await settle()
    assert not second.done()
    assert (gate.in_flight, gate.on_the_wire) == (1, 1)
    budget.leave(JOB, Lane.CONTROL, probe.result())
    third = enter(budget)
    passage = await second
    assert now() - closed >= 20.0
    assert not third.done()
    budget.answered(JOB, passage, failing=False)
    for each in (passage, await third):
        budget.leave(JOB, Lane.CONTROL, each)
    assert (gate.in_flight, gate.on_the_wire) == (0, 0)


async def test_an_answer_lets_others_in_before_its_body_has_come() -> None:
    """The next waiter goes when the headers of the probe are here, not when its body is."""
    budget = new_budget(Limits(in_flight=2))
    budget.close(JOB, 10.0)
    probe, second = enter(budget), enter(budget)
    passage = await probe
    await asyncio.sleep(100.0)
    assert not second.done()
    budget.answered(JOB, passage, failing=False)
    await settle()
    for each in (second.result(), passage):
        budget.leave(JOB, Lane.CONTROL, each)
