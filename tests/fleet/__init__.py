"""Many processes, one account: a fleet of workers against a provider that counts. ``python -m tests.fleet --help``."""
