"""Every decision, and nothing else: no clock, randomness, logging, threads or I/O."""
