"""Everything that can go wrong, on purpose: many workers, all stores, faults from a seed. ``python -m tests.chaos``."""
