"""A search for input that misleads the guard, or breaks it: ``make fuzz``, or ``python -m tests.fuzz``.

A *target* is one place where something of somebody else's is read: an answer, a callback, a setting, a price file, a
database file. It draws cases, as bytes, from a `random.Random`, and says of any bytes at all whether they broke a
promise. So the same target is tried with a few hundred cases in the suite, where Hypothesis holds the dice and makes
what it finds smaller; with as many as there is time for by the command; and with the coverage to guide it, where
atheris is installed.
"""
