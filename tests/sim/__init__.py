"""Whole features against simulated parts of the world, at every point where something can go wrong."""
