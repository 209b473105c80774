"""The entry of the command: says what to install when its extra is missing, else hands over to `cli`."""

from __future__ import annotations

import gc
import sys
from importlib.util import find_spec

NEEDED = ("click", "rich")
INTERRUPTED = 130


def main() -> None:
    """Run the `asyncjobs` command and end the process with its exit code."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"asyncjobs: the command needs {' and '.join(missing)};"
            " install what is missing with: pip install 'gitlab-asyncjobs[cli]'\n"
        )
        sys.exit(2)
    try:
        from asyncjobs.cli.app import leave  # noqa: PLC0415 - not importable without the extra
        from asyncjobs.cli.app import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)  # nothing was begun: no place in the imports is worth a traceback

    # What was imported is no garbage: the first full collection would walk it all, for 40 ms of the loop.
    gc.freeze()
    leave(run())


if __name__ == "__main__":
    main()
