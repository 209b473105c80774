"""Measurements beside other programs: `python -m benchmarks NAME`. Caveats first, then figures, then how to repeat."""
