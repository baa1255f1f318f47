"""What the guard costs, beside the floor set by the machine and beside the peers: ``python -m benchmarks``."""
