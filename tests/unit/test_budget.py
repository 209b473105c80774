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


async def test_a_probe_does_not_wait_for_a_slot() -> None:
    """A closed gate is looked through by whoever has a slot, not by one whose lane is full of long bodies."""
    budget = new_budget(Limits(tails=1))
    body = await budget.enter(EndpointClass.TRACE, Lane.TAIL, None)
    budget.close(JOB, 5.0)
    polls = [asyncio.create_task(budget.enter(JOB, Lane.TAIL, None)) for _ in range(3)]
    await settle()
    closed, control = now(), enter(budget)
    probe = await control
    assert 5.0 <= now() - closed <= 6.0
    budget.answered(JOB, probe, failing=False)
    budget.leave(JOB, Lane.CONTROL, probe)
    await settle()
    assert not any(poll.done() for poll in polls)
    budget.leave(EndpointClass.TRACE, Lane.TAIL, body)
    for poll in polls:
        budget.leave(JOB, Lane.TAIL, await poll)
    assert (budget._gates[JOB].in_flight, budget.slots[Lane.TAIL].in_flight) == (0, 0)


async def test_a_full_lane_behind_a_closed_gate() -> None:
    """All who wait there wait for slots too: they come one by one and in order, and cancels lose nothing."""
    budget = new_budget(Limits(tails=1))
    body = await budget.enter(EndpointClass.TRACE, Lane.TAIL, None)
    budget.close(JOB, 5.0)
    order: list[int] = []

    async def call(number: int) -> None:
        passage = await budget.enter(JOB, Lane.TAIL, None)
        order.append(number)
        await asyncio.sleep(0.1)
        budget.answered(JOB, passage, failing=False)
        budget.leave(JOB, Lane.TAIL, passage)

    calls = [asyncio.create_task(call(number)) for number in range(30)]
    await asyncio.sleep(20)
    for number in (0, 7, 29):
        calls[number].cancel()
    await settle()
    budget.leave(EndpointClass.TRACE, Lane.TAIL, body)
    async with asyncio.timeout(60):
        await asyncio.gather(*calls, return_exceptions=True)
    assert order == [number for number in range(30) if number not in {0, 7, 29}]
    assert (budget._gates[JOB].in_flight, budget.slots[Lane.TAIL].in_flight) == (0, 0)
    assert budget._gates[JOB].is_open
