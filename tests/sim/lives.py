"""What clients do in a storm: each life is one run of one seed, and gives the checksum of its wire.

A life does its work while everything goes wrong, may be interrupted, and does it once more in the calm.
During the storm a failure is allowed if it has a name; a wrong result never is. In the calm nothing may fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

from tests.sim.calls import actions, closing, fan_out
from tests.sim.folders import save, sync
from tests.sim.loop import SimLoop
from tests.sim.storm import Trouble
from tests.sim.tails import follow, restarts, story, tail

Life = Callable[[SimLoop, int, list[Trouble] | None], Coroutine[Any, Any, int]]

LIVES: dict[str, Life] = {
    "fan out": fan_out,
    "actions": actions,
    "closing": closing,
    "tail": tail,
    "follow": follow,
    "restarts": restarts,
    "story": story,
    "sync": sync,
    "save": save,
}
SEEDS = int(os.environ.get("ASYNCJOBS_SEEDS", "25"))
"""Seeds of each life in one run of the tests."""
