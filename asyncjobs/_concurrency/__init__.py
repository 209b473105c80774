"""Bounds on what happens at once, and for how long: slots, turnstiles, lifetimes, one stream of many workers.

Knows nothing of GitLab or HTTP; the rules it waits for are passed in.
"""

from asyncjobs._concurrency.fan import Emit, Fan, first_error
from asyncjobs._concurrency.lifetime import ClosingClock, Lifetime
from asyncjobs._concurrency.limiter import CapacityLimiter
from asyncjobs._concurrency.turnstile import ImpatientError, Turnstile
from asyncjobs._models.calls import Lane

__all__ = [
    "CapacityLimiter",
    "ClosingClock",
    "Emit",
    "Fan",
    "ImpatientError",
    "Lane",
    "Lifetime",
    "Turnstile",
    "first_error",
]
