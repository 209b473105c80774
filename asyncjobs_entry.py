"""The `asyncjobs` command as it is installed: beside the package, to meet Ctrl-C while the package loads.

Loading takes a good part of a second, and no import can be guarded from inside of itself.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command and end the process with its exit code."""
    try:
        from asyncjobs.__main__ import main as run  # noqa: PLC0415 - the reason for this file

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)  # nothing was begun: no place in the imports is worth a traceback
