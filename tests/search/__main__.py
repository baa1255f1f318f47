"""Runs the search by hand: ``python -m tests.search``. Exits with 1 if a promise was broken or a mistake not found."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.search.life import live
from tests.search.mirror import Broken
from tests.search.runner import Found, Tally, catch_all, search
from tests.search.scenario import KINDS, draw

_SCHEDULES = 100_000
_MUTATION_SCHEDULES = 40_000


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.search", description=__doc__)
    parser.add_argument("--schedules", type=int, default=_SCHEDULES, help="how many schedules to run (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one (%(default)s)")
    parser.add_argument("--seed", type=int, help="run this one schedule only")
    parser.add_argument("--replay", type=int, metavar="SEED", help="the same, and print what happened")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--no-mutations", action="store_true", help="do not try the deliberate mistakes")
    options = parser.parse_args(arguments)
    seed = options.seed if options.replay is None else options.replay
    if seed is not None:
        return _replay(seed)
    begun = time.perf_counter()
    tally = search(options.first, options.schedules, processes=options.processes, progress=_progress)
    _report(tally, time.perf_counter() - begun)
    missed = [] if options.no_mutations else _mutations(options.first, options.processes)
    return 1 if tally.found or missed else 0


def _replay(seed: int) -> int:
    trace: list[str] = []
    scenario = draw(seed)
    _say(f"seed {seed}, {scenario.kind}, pace {scenario.pace}\n{scenario.policy}\nlimits {scenario.limits}\n")
    broken = ""
    try:
        live(scenario, trace=trace)
    except Broken as error:
        broken = str(error)
    _say("\n".join(trace))
    _say(f"\nBroken: {broken}" if broken else "\nEvery promise was kept.")
    return 1 if broken else 0


def _progress(tally: Tally, new: list[Found], seconds: float) -> None:
    for found in new:
        _show(found)
    if tally.schedules % 10_000 == 0:
        rate = tally.schedules / max(seconds, 1e-9)
        _say(f"{tally.schedules:>9} schedules, {rate:.0f} a second, {len(tally.found)} broken")


def _report(tally: Tally, seconds: float) -> None:
    _say(f"\n{tally.schedules} schedules in {seconds:.0f} s, {tally.steps} steps, {len(tally.found)} broken promises")
    _say(f"\nClasses ({len(tally.kinds)} of {len(KINDS)})")
    _columns({kind: str(tally.kinds[kind]) for kind in KINDS})
    _say("\nMet")
    _columns({name: str(count) for name, count in sorted(tally.met.items())})
    _say("\nLongest wait at the head of a line beside room, in simulated seconds")
    _columns({kind: f"{longest / 1e6:.1f}" for kind, longest in sorted(tally.waited.items())})


def _columns(rows: dict[str, str]) -> None:
    for name, value in rows.items():
        _say(f"  {name:<40}{value:>12}")


def _show(found: Found) -> None:
    _say(f"\nseed {found.seed} ({found.kind}): {found.what}\n  python -m tests.search --replay {found.seed}")


def _mutations(first: int, processes: int) -> list[str]:
    _say("\nDeliberate mistakes: schedules until one of them broke a promise")
    missed = []
    for caught in catch_all(first, _MUTATION_SCHEDULES, processes=processes):
        found = caught.found
        if found is None:
            missed.append(caught.name)
        promise = "NOT FOUND" if found is None else f"{found.promise} (seed {found.seed})"
        _say(f"  {caught.name:<68}{caught.schedules:>7}  {promise}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
