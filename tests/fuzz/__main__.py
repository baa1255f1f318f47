"""Looks for input that breaks a promise: ``python -m tests.fuzz``. Exits with 1 if it found any."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.fuzz.coverage import guide
from tests.fuzz.runner import Tally, fault_of, kept, read, share
from tests.fuzz.targets import TARGETS, made

_MINUTES = 10.0
FINDINGS = Path("fuzz-findings")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="how long to look (%(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="what all cases are drawn from")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try a finding again, and show what happens")
    parser.add_argument("--guided", metavar="TARGET", help="let the coverage guide the search (needs atheris)")
    parser.add_argument("--findings", type=Path, default=FINDINGS, help="where findings are kept (%(default)s)")
    options = parser.parse_args(arguments)
    if options.replay is not None:
        return _replay(options.replay)
    if options.guided is not None:
        return guide(options.guided, options.minutes * 60, options.seed, options.findings)
    names = options.target or list(TARGETS)
    _say(f"seed {options.seed}, {len(names)} targets, {options.minutes:g} minutes")
    tallies = _search(names, options.seed, options.minutes * 60, options.processes)
    return _report(tallies, options.findings)


def _search(names: list[str], seed: int, seconds: float, processes: int) -> list[Tally]:
    """Share the targets among processes; each goes round its own until the time is over."""
    processes = max(1, min(processes, len(names)))
    shares = [names[at::processes] for at in range(processes)]
    if processes == 1:
        return share(names, seed, seconds)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        done = [pool.submit(share, names, seed, seconds) for names in shares]
        tallies = [tally for future in done for tally in future.result()]
    return sorted(tallies, key=lambda tally: names.index(tally.target))


def _report(tallies: list[Tally], folder: Path) -> int:
    _say(f"\n{'target':<24}{'inputs':>12}{'a second':>10}{'broken':>8}")
    for tally in tallies:
        rate = tally.tried / max(tally.seconds, 1e-9)
        _say(f"{tally.target:<24}{tally.tried:>12,}{rate:>10,.0f}{tally.broken:>8,}")
    _say(f"{'all':<24}{sum(tally.tried for tally in tallies):>12,}{'':>10}{sum(t.broken for t in tallies):>8,}")
    for tally in tallies:
        for found in tally.found:
            path = kept(found, folder)
            told = found.detail.strip().splitlines()[-1][:300]
            _say(f"\n{tally.target}: {found.fault}: {told}\n  python -m tests.fuzz --replay {path}")
    return 1 if any(tally.broken for tally in tallies) else 0


def _replay(path: Path) -> int:
    name, case = read(path)
    target = made(name)
    try:
        fault, detail = fault_of(target, case)
    finally:
        target.close()
    _say(f"{case[:2000]!r}\n\n{detail or 'Every promise was kept.'}")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
