"""A search for an order of events that breaks a promise.

Each schedule is a small world drawn from one whole number: a provider, a few processes that share a store, calls, and
everything that may go wrong between them. The real flows run in it, step by step, in an order the number decides, and
the promises are checked after each step. `python -m tests.search --help` runs it by hand.
"""
