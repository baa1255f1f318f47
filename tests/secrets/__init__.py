"""A search for API keys in everything the library writes.

Run as ``python -m tests.secrets`` (``make secrets``): it goes through all ways in, stores and kinds of failure, writes
down what comes out, and looks for the keys in it, in every form a key could be written in. ``--plant FORM`` leaks one
on purpose.
"""
