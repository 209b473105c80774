"""Measurements beside other programs: `python -m benchmarks NAME`. Caveats first, then the figures."""
