"""The pytest fixture `fake_gitlab`: a FakeGitLab for sync and async tests alike, loaded only when used.

pytest imports every plugin in every run: this module stands outside of the package `asyncjobs`, whose
import brings the whole client with it, and imports nothing heavy itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from asyncjobs.testing import FakeGitLab


@pytest.fixture
def fake_gitlab(request: pytest.FixtureRequest) -> Iterator[FakeGitLab]:
    """A FakeGitLab that serves in its own thread; build its world from the test.

    Choose a generation with `@pytest.mark.parametrize("fake_gitlab", ["18"], indirect=True)`.
    """
    from asyncjobs.testing import FakeGitLab  # noqa: PLC0415  # see above
    from asyncjobs.testing._thread import serve_in_thread  # noqa: PLC0415  # see above

    with serve_in_thread(FakeGitLab(getattr(request, "param", "19.5"))) as gitlab:
        yield gitlab
