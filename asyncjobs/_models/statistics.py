"""What a client says about its own traffic."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class ClassStatistics:
    """Counts for one class of endpoints since the client was made."""

    requests: int = 0
    """Requests sent, retries and redirect hops included."""
    retries: int = 0
    received_bytes: int = 0
    """Body bytes as they crossed the network."""
    waits: int = 0
    """How often a request had to wait for the rate limit or a closed gate."""
    waited_seconds: float = 0.0
    gate_closings: int = 0
    """How often an answer closed the gate of this class for everybody."""
    gate_open: bool = True


@attrs.frozen
class LaneStatistics:
    """One queue for slots: control calls, tail polls, bulk bodies."""

    limit: int | None
    in_flight: int
    waiting: int


@attrs.frozen
class Statistics:
    """A snapshot of a client's traffic."""

    endpoints: Mapping[str, ClassStatistics]
    """By class: `jobs_index`, `project`, `trace`, `artifact`, `storage`, `other`."""
    lanes: Mapping[str, LaneStatistics]
    """By lane: `control`, `tail`, `bulk`."""
    retry_tokens: float
    """What is left of the API's retry budget."""
    rate_limit_remaining: int | None
    """What the server last said, or None when it never did."""

    @property
    def requests(self) -> int:
        """All requests sent."""
        return sum(each.requests for each in self.endpoints.values())

    @property
    def retries(self) -> int:
        """All retries among them."""
        return sum(each.retries for each in self.endpoints.values())

    @property
    def received_bytes(self) -> int:
        """All body bytes received."""
        return sum(each.received_bytes for each in self.endpoints.values())
