"""The retry budget of one origin: 20 retries at once, one in ten in the long run.

While a server is down, what is asked of it stays within a tenth above what was wanted: each retry
takes tokens, each success gives one back, and with none left a failure is final at once.
"""

from __future__ import annotations

from typing import Final

CAPACITY: Final = 200.0
REFUND: Final = 1.0


class RetryBucket:
    """A plain counter between 0 and `CAPACITY`."""

    def __init__(self) -> None:
        self.tokens = CAPACITY

    def take(self, cost: float) -> bool:
        """Pay for a retry; False when there is not enough left."""
        if cost > self.tokens:
            return False
        self.tokens -= cost
        return True

    def succeeded(self) -> None:
        """A request went well."""
        self.tokens = min(CAPACITY, self.tokens + REFUND)
