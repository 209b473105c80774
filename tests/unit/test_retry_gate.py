"""The gate and the windows: when the next request of an endpoint class may go."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncjobs._retry.gate import FOREVER, Gate, Passage
from asyncjobs._retry.window import SKEW_SECONDS, ServerWindow, Window


def enter(gate: Gate, now: float) -> Passage | None:
    """Ask and go onto the wire at once."""
    passage = gate.ask(now)
    if not isinstance(passage, Passage):
        return None
    gate.sent()
    return passage


def entered(gate: Gate, now: float) -> Passage:
    """The same, where it must work."""
    passage = enter(gate, now)
    assert passage is not None
    return passage


def refused(gate: Gate, now: float, passage: Passage, seconds: float) -> None:
    """A demand to wait came, as the request room tells it."""
    gate.leave(now, passage)
    gate.close(now, seconds)


def test_an_open_gate_lets_everybody_in() -> None:
    """Before any demand to wait there is no limit here."""
    gate = Gate()
    assert all(enter(gate, 0.0) for _ in range(1000))
    assert gate.is_open
    assert (gate.in_flight, gate.on_the_wire, gate.closings) == (1000, 1000, 0)


def test_one_demand_closes_it_for_everybody() -> None:
    """While it is closed nobody passes, and each is told how long it lasts."""
    gate = Gate()
    refused(gate, 0.0, entered(gate, 0.0), 30.0)
    assert not gate.is_open
    assert [gate.ask(0.0), gate.ask(10.0), gate.ask(29.5)] == [30.0, 20.0, 0.5]
    assert [gate.closed_for(0.0), gate.closed_for(29.0), gate.closed_for(31.0)] == [30.0, 1.0, 0.0]
    gate.answered(31.0, entered(gate, 31.0))
    assert gate.closed_for(31.0) == 0.0


def test_a_later_demand_only_lengthens() -> None:
    """Of several answers that close it, the latest end counts, and it is one closing."""
    gate = Gate()
    gate.close(0.0, 0.5)
    assert gate.ask(0.0) == 0.5
    gate.close(0.0, 30.0)
    gate.close(1.0, 5.0)
    assert gate.ask(2.0) == 28.0
    gate.close(2.0, 60.0)
    assert gate.ask(2.0) == 60.0
    assert gate.closings == 1


def test_one_probe_reopens() -> None:
    """At the end of the silence one request goes; the others wait for its answer, then come in by halves."""
    gate = Gate()
    before = [entered(gate, 0.0) for _ in range(8)]
    gate.close(0.0, 10.0)
    for passage in before:
        gate.leave(0.0, passage)
    probe = entered(gate, 10.0)
    assert gate.ask(10.0) == FOREVER
    gate.answered(10.2, probe)
    gate.leave(10.2, probe)
    assert gate.is_open
    assert [bool(enter(gate, 10.2)) for _ in range(6)] == [True] * 4 + [False] * 2
    assert gate.ask(10.7) == pytest.approx(0.5)
    assert [bool(enter(gate, 11.3)) for _ in range(2)] == [True, False]
    assert all(enter(gate, 14.3) for _ in range(100))


@pytest.mark.parametrize(("earlier", "at_once"), [(1, 100), (2, 1), (3, 1), (4, 2), (9, 4)])
def test_half_of_what_was_under_way_comes_in_at_once(earlier: int, at_once: int) -> None:
    """Half of it, rounded down, but never none; and beside a single request nothing is held back."""
    gate = Gate()
    before = [entered(gate, 0.0) for _ in range(earlier)]
    gate.close(0.0, 10.0)
    for passage in before:
        gate.leave(0.0, passage)
    probe = entered(gate, 10.0)
    gate.answered(10.0, probe)
    gate.leave(10.0, probe)
    assert sum(enter(gate, 10.0) is not None for _ in range(100)) == at_once


def test_a_crowd_is_let_in_for_a_minute_at_most() -> None:
    """However many were under way when it closed, after a minute nobody has to wait."""
    gate = Gate()
    before = [entered(gate, 0.0) for _ in range(1000)]
    gate.close(0.0, 10.0)
    for passage in before:
        gate.leave(0.0, passage)
    probe = entered(gate, 10.0)
    gate.answered(10.0, probe)
    assert sum(enter(gate, 69.0) is not None for _ in range(2000)) == 500 + 59 - 1
    assert all(enter(gate, 70.5) for _ in range(2000))


def test_an_answer_opens_it_before_its_body_has_come() -> None:
    """A probe that is a download of an hour does not keep the others waiting for an hour."""
    gate = Gate()
    refused(gate, 0.0, entered(gate, 0.0), 10.0)
    probe = entered(gate, 10.0)
    gate.answered(10.2, probe)
    assert gate.is_open
    assert (gate.in_flight, gate.on_the_wire) == (1, 1)
    gate.leave(3_600.0, probe)
    assert gate.is_open


def test_a_late_answer_to_an_old_request_opens_nothing() -> None:
    """What was sent before the closing may still be answered well: the probe is waited for."""
    gate = Gate()
    early, hasty = entered(gate, 0.0), entered(gate, 0.0)
    refused(gate, 1.0, hasty, 10.0)
    probe = entered(gate, 11.0)
    gate.answered(11.5, early)
    gate.leave(11.6, early)
    assert not gate.is_open
    assert gate.ask(11.7) == FOREVER
    refused(gate, 12.0, probe, 30.0)
    assert gate.ask(12.0) == 30.0


def test_an_old_request_that_breaks_off_is_no_failed_probe() -> None:
    """The end of what was sent before the closing says nothing about the probe: no second one goes."""
    gate = Gate()
    early, hasty = entered(gate, 0.0), entered(gate, 0.0)
    refused(gate, 1.0, hasty, 10.0)
    probe = entered(gate, 11.0)
    gate.leave(11.5, early)
    assert gate.ask(100.0) == FOREVER
    gate.answered(101.0, probe)
    assert gate.is_open


def test_a_probe_from_before_a_later_demand_opens_nothing() -> None:
    """Silence asked for while the probe is out counts, whatever the probe's answer is."""
    gate = Gate()
    early, hasty = entered(gate, 0.0), entered(gate, 0.0)
    refused(gate, 1.0, hasty, 10.0)
    probe = entered(gate, 11.0)
    refused(gate, 11.5, early, 20.0)
    gate.answered(12.0, probe)
    gate.leave(12.0, probe)
    assert gate.ask(12.0) == 19.5
    gate.answered(32.0, entered(gate, 32.0))
    assert gate.is_open


def test_no_second_probe_within_the_second_of_the_first() -> None:
    """Others that are refused while the probe is out, and told to wait for nothing, send none of theirs."""
    gate = Gate()
    early, hasty = entered(gate, 0.0), entered(gate, 0.0)
    refused(gate, 1.0, hasty, 10.0)
    entered(gate, 11.0)
    refused(gate, 11.0, early, 0.0)
    assert gate.ask(11.0) == 1.0
    assert enter(gate, 12.0)


def test_a_probe_that_waits_for_its_slot_is_given_back_after_a_later_demand() -> None:
    """What was granted before the newest demand for silence is not sent into it."""
    gate = Gate()
    early, hasty = entered(gate, 0.0), entered(gate, 0.0)
    refused(gate, 1.0, hasty, 10.0)
    probe = gate.ask(11.0)
    assert isinstance(probe, Passage)
    assert not gate.is_stale(probe)
    refused(gate, 11.0, early, 20.0)
    assert gate.is_stale(probe)


def test_a_refused_probe_lets_nobody_slip_through() -> None:
    """Between the end of a refused probe and its demand to wait, the next in the queue does not pass."""
    gate = Gate()
    gate.close(0.0, 10.0)
    gate.leave(10.1, entered(gate, 10.0))
    wait = gate.ask(10.1)
    assert isinstance(wait, float)
    assert 0.0 < wait <= 1.0
    gate.close(10.1, 60.0)
    assert gate.ask(10.1) == pytest.approx(60.0)


def test_a_probe_without_an_answer_is_followed_by_another() -> None:
    """A probe that breaks off does not keep the gate closed for ever."""
    gate = Gate()
    gate.close(0.0, 10.0)
    gate.leave(15.0, entered(gate, 10.0))
    assert not gate.is_open
    assert enter(gate, 16.0)


def test_a_probe_that_was_not_sent_is_no_probe() -> None:
    """A probe given back before it had a slot leaves its turn to the next at once."""
    gate = Gate()
    gate.close(0.0, 10.0)
    passage = gate.ask(10.0)
    assert isinstance(passage, Passage)
    gate.give_back(passage)
    assert enter(gate, 10.0)


def test_passages_from_before_do_not_end_the_probing() -> None:
    """Whoever waited for a slot while the gate closed gives back a passage; that allows no second probe."""
    gate = Gate()
    passage = gate.ask(0.0)
    assert isinstance(passage, Passage)
    assert not gate.is_stale(passage)
    gate.close(0.0, 10.0)
    assert gate.is_stale(passage)
    assert not gate.is_stale(entered(gate, 10.0))
    gate.give_back(passage)
    assert gate.ask(10.0) == FOREVER


class GateMachine(RuleBasedStateMachine):
    """Any order of callers, answers, refusals and times, as the budget drives a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.now = 0.0
        self.unsent: list[Passage] = []
        """Passages granted and waiting for a slot."""
        self.sent: list[Passage] = []
        self.sent_at: dict[Passage, float] = {}
        self.closed_at = -math.inf
        """When silence was asked for last."""
        self.silent_until = -math.inf
        self.sent_while_closed: list[float] = []

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        """The clock goes on."""
        self.now += seconds

    @rule()
    def ask(self) -> None:
        """Somebody asks for a passage."""
        closed = not self.gate.is_open
        wait = self.gate.ask(self.now)
        if isinstance(wait, Passage):
            assert self.now >= self.silent_until, "nobody passes before the server's time is over"
            assert not closed or self.gate.closed_for(self.now) == 0.0
            self.unsent.append(wait)
            return
        # Whoever waits as told and finds the gate unchanged is not sent away for ever.
        assert 0.0 < wait < 1e6 or wait == FOREVER

    @precondition(lambda self: self.unsent)
    @rule(which=st.integers(0, 50))
    def a_slot_is_free(self, which: int) -> None:
        """A passage granted goes onto the wire, or back when the gate closed meanwhile."""
        passage = self.unsent.pop(which % len(self.unsent))
        if self.gate.is_stale(passage):
            self.gate.give_back(passage)
            return
        self.gate.sent()
        self.sent.append(passage)
        self.sent_at[passage] = self.now
        if not self.gate.is_open:
            self.sent_while_closed.append(self.now)

    @precondition(lambda self: self.unsent)
    @rule(which=st.integers(0, 50))
    def a_waiter_is_cancelled(self, which: int) -> None:
        """A passage is given back unused."""
        self.gate.give_back(self.unsent.pop(which % len(self.unsent)))

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 50), over=st.booleans())
    def an_answer(self, which: int, over: bool) -> None:
        """The headers of a good answer come, perhaps with the end of its body."""
        passage = self.sent[which % len(self.sent)]
        closed = not self.gate.is_open
        self.gate.heard(passage)
        self.gate.answered(self.now, passage)
        if closed and self.gate.is_open:
            assert self.sent_at[passage] >= self.closed_at, "only a later request tells that it is over"
        if over:
            self.sent.remove(passage)
            self.gate.leave(self.now, passage)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 50))
    def no_answer(self, which: int) -> None:
        """A request breaks off."""
        self.gate.leave(self.now, self.sent.pop(which % len(self.sent)))

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 50), seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0]))
    def a_refusal(self, which: int, seconds: float) -> None:
        """A request is answered by a demand to wait."""
        refused(self.gate, self.now, self.sent.pop(which % len(self.sent)), seconds)
        self.closed_at = self.now
        self.silent_until = max(self.silent_until, self.now + seconds)

    @invariant()
    def counts_are_true(self) -> None:
        """The gate knows how many are inside."""
        assert self.gate.in_flight == len(self.unsent) + len(self.sent)
        assert self.gate.on_the_wire == len(self.sent)
        assert self.gate.unheard == sum(not passage.is_heard for passage in self.sent)

    @invariant()
    def one_request_a_second_while_closed(self) -> None:
        """While closed, however much ends or fails, requests go a second apart."""
        if self.gate.is_open:
            self.sent_while_closed.clear()
        assert all(later - earlier >= 0.999 for earlier, later in pairwise(self.sent_while_closed))

    def teardown(self) -> None:
        """When everything has ended and time goes by, somebody passes again."""
        while self.unsent:
            self.a_waiter_is_cancelled(0)
        while self.sent:
            self.no_answer(0)
        assert isinstance(self.gate.ask(self.now + 1000.0), Passage)


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


# -- windows --------------------------------------------------------------------------------------


def run(window: Window, wishes: list[float]) -> list[float]:
    """When each wish, in order, was sent."""
    sent: list[float] = []
    now = 0.0
    for wish in sorted(wishes):
        now = max(now, wish)
        for _ in range(10):
            wait = window.ask(now)
            if wait == 0.0:
                break
            now += wait
        else:
            pytest.fail("asking again after the wait never helped")
        window.count(now)
        sent.append(now)
    return sent


def test_a_window_at_full_speed() -> None:
    """A burst uses the minute at once, then waits for the next, not for one request after the other."""
    sent = run(Window(10), [6_000_020.0] * 25)
    assert sent == [6_000_020.0] * 10 + [6_000_062.0] * 10 + [6_000_122.0] * 5


def test_what_is_sent_close_to_a_boundary_counts_on_both_sides() -> None:
    """With both minutes full, what is waited for is the end of the later one."""
    window = Window(1)
    window.count(6_000_059.0)
    assert [window.ask(6_000_030.0), window.ask(6_000_059.0), window.ask(6_000_090.0)] == [32.0, 63.0, 32.0]
    assert window.ask(6_000_122.0) == 0.0


@given(
    st.integers(1, 20),
    st.lists(
        st.tuples(st.sampled_from([0, 60, 120, 180]), st.floats(-3, 3), st.integers(1, 20)),
        min_size=1,
        max_size=10,
    ),
    st.floats(-SKEW_SECONDS, SKEW_SECONDS).filter(lambda skew: abs(skew) < SKEW_SECONDS),
)
def test_no_minute_of_the_server_gets_more(
    limit: int, bursts: list[tuple[int, float, int]], skew: float
) -> None:
    """With a clock off by less than two seconds either way, no minute of the server exceeds the limit."""
    wishes = [1_000_000_020.0 + minute + offset for minute, offset, size in bursts for _ in range(size)]
    sent = run(Window(limit), wishes)
    per_minute: dict[int, int] = {}
    for moment in sent:
        minute = int((moment + skew) // 60)
        per_minute[minute] = per_minute.get(minute, 0) + 1
    assert max(per_minute.values()) <= limit


def test_a_jumping_clock() -> None:
    """When the wall clock jumps by a day, back or forth, waits stay short and counts stay few."""
    window = Window(1)
    for jump in (0.0, -86_400.0, 86_400.0, -3_600.0, -59.0, 61.0, 109.0, 169.0, 229.0, 289.0):
        moment = 1_000_000_030.0 + jump
        assert window.ask(moment) <= 124.0
        window.count(moment)
        assert len(window._counts) <= 3


def test_no_limit_counts_nothing() -> None:
    """None lifts the limit."""
    window = Window(None)
    assert run(window, [0.0] * 1000) == [0.0] * 1000


def test_the_servers_word() -> None:
    """What the server says is left is used up and then waited for; before it said anything nothing waits."""
    window = ServerWindow()
    assert window.ask(0.0) == 0.0
    window.count(0.0)
    window.observe(0.0, remaining=3, reset_in=20.0, under_way=1)
    for _ in range(2):
        assert window.ask(1.0) == 0.0
        window.count(1.0)
    assert window.ask(1.0) == 19.0
    window.count(1.0)
    assert window.remaining == 0
    assert [window.ask(20.0), window.ask(25.0)] == [0.0, 0.0]


def test_what_is_sent_after_a_window_is_not_taken_off_it() -> None:
    """What the server said last stays what it said, until it speaks of the next window."""
    window = ServerWindow()
    window.observe(0.0, remaining=3, reset_in=20.0, under_way=0)
    window.count(19.9)
    window.count(20.0)
    assert window.remaining == 2


@pytest.mark.parametrize("facts", [(None, 20.0), (5, None), (None, None)])
def test_half_a_word_is_none(facts: tuple[int | None, float | None]) -> None:
    """Remaining without Reset, or Reset without Remaining, changes nothing."""
    window = ServerWindow()
    window.observe(0.0, remaining=0, reset_in=20.0, under_way=0)
    window.observe(0.0, remaining=facts[0], reset_in=facts[1], under_way=0)
    assert window.ask(0.0) == 20.0


def test_the_newest_word_counts() -> None:
    """Several web nodes answer in any order: the latest to arrive is believed, less what is under way."""
    window = ServerWindow()
    window.observe(0.0, remaining=0, reset_in=20.0, under_way=0)
    window.observe(0.0, remaining=50, reset_in=20.0, under_way=60)
    assert window.remaining == 0
    window.observe(0.0, remaining=50, reset_in=20.0, under_way=10)
    assert window.remaining == 40
