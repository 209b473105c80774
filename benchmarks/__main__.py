"""`python -m benchmarks NAME [args]` runs the benchmark in `benchmarks/NAME.py`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def names() -> list[str]:
    """The benchmarks: modules here with a `main`, told by the word in their text."""
    here = Path(__file__).parent
    return sorted(
        path.stem
        for path in here.glob("*.py")
        if not path.stem.startswith("_") and "def main(" in path.read_text(encoding="utf-8")
    )


def main(argv: list[str]) -> int:
    """Dispatch to a benchmark."""
    if not argv or argv[0] not in names():
        print(f"usage: python -m benchmarks NAME [args], with NAME one of: {', '.join(names())}")
        return 2
    return int(importlib.import_module(f"benchmarks.{argv[0]}").main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
