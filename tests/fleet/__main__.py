"""Runs a fleet by hand: ``python -m tests.fleet --store sqlite``. Exits with 1 if a promise was broken."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from dataclasses import replace

from tests.fleet.figures import Figures, Promise, promises
from tests.fleet.ground import TROUBLES, ground
from tests.fleet.plan import Plan
from tests.fleet.run import Run, play

_LEASE = 3.0
_PATIENCE = 1.0
_SPARE = 100_000


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "valkey"], default="sqlite", help="what the processes share")
    parser.add_argument("--processes", type=int, default=8, metavar="N")
    parser.add_argument("--jobs", type=int, default=400, metavar="N", help="of all processes")
    parser.add_argument("--limit", type=int, default=40, metavar="N", help="tasks the provider runs at once")
    parser.add_argument("--threads", type=int, default=14, metavar="N", help="of each process")
    parser.add_argument("--way", choices=["threads", "tasks", "both"], default="both", help="in every other process")
    parser.add_argument("--spare", type=int, metavar="N", help="credits above what the jobs cost")
    parser.add_argument("--latency", type=float, default=0.01, metavar="S", help="seconds a submit is on its way")
    parser.add_argument("--kill", type=int, nargs="?", const=10, default=0, metavar="N", help="kill processes (10)")
    troubles = "; ".join(f"{name}: {trouble.says}" for name, trouble in TROUBLES.items())
    parser.add_argument(
        "--trouble", choices=list(TROUBLES), default="", help=f"what happens to the server ({troubles})"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same jobs again; new ones without this")
    parser.add_argument("--alone", action="store_true", help="without the semaphore beside it")
    options = parser.parse_args(arguments)
    if options.trouble not in ("", "empty") and options.store != "valkey":
        parser.error("a file can only be taken away: give --trouble empty, or --store valkey")
    calm = not options.kill and not options.trouble
    plan = Plan(
        processes=options.processes,
        jobs=options.jobs,
        limit=options.limit,
        threads=options.threads,
        way=options.way,
        latency=options.latency,
        spare=options.spare if options.spare is not None else 0 if calm else _SPARE,
        seed=random.randrange(10_000) if options.seed is None else options.seed,
    )
    if not calm:
        plan = replace(plan, lease=_LEASE, patience=_PATIENCE)
    return _run(plan, options.store, kills=options.kill, trouble=options.trouble, alone=options.alone or not calm)


def _run(plan: Plan, store: str, *, kills: int, trouble: str, alone: bool) -> int:
    _say(
        f"{plan.processes} processes, {plan.jobs} jobs, limit {plan.limit}, {store}, seed {plan.seed}; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    )
    if kills:
        _say(f"{kills} processes are killed at random moments, and replaced")
    if trouble:
        said = "the file is taken away" if store == "sqlite" else f"the server is {TROUBLES[trouble].says}"
        _say(f"three times {said}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whoever ends this ends what it started
    with ground(store, trouble=trouble) as place:
        guarded = Run(plan, place, kills=kills, trouble=trouble)
        told = None if alone else Run(plan, None)
        play([guarded] if told is None else [guarded, told])
    runs = [guarded.figures] if told is None else [guarded.figures, told.figures]
    _table(runs)
    held = promises(guarded.figures, None if told is None else told.figures, calm=not kills and not trouble)
    _report(held, guarded.figures)
    return 0 if all(promise.kept for promise in held) else 1


def _table(runs: list[Figures]) -> None:
    rows: list[tuple[str, list[str]]] = [
        ("", [run.title for run in runs]),
        ("jobs done", [f"{run.done} of {run.jobs}" for run in runs]),
        ("seconds", [f"{run.seconds:.1f}" for run in runs]),
        ("slots used, first to last submit", [f"{run.used:.1%}" for run in runs]),
        ("submits", [str(run.submits) for run in runs]),
        ("refused by the provider", [str(run.refused) for run in runs]),
        ("requests for the balance", [str(run.asked) for run in runs]),
        ("most of them at once", [str(run.asked_at_once) for run in runs]),
        ("fairness (Jain's index)", [f"{run.fair:.3f}" for run in runs]),
        ("done by each when the first was through", [" ".join(str(share) for share in run.shares) for run in runs]),
        ("credits left", [str(run.left) for run in runs]),
        ("processes killed", [str(run.kills) for run in runs]),
        ("pauses because the store forgot", [str(run.pauses["store_forgot"]) for run in runs]),
        ("StoreErrors met", [str(run.errors["StoreError"]) for run in runs]),
    ]
    _say("")
    for name, values in rows:
        _say(f"  {name:<42}" + "".join(f"{value:<28}" for value in values).rstrip())
    _say("")


def _report(held: list[Promise], guarded: Figures) -> None:
    for promise in held:
        _say(f"  {'kept  ' if promise.kept else 'BROKEN'}  {promise.says}")
    for kind, says in guarded.said.items():
        _say(f"\n  {kind}: {says}")
    for complaint in guarded.complaints:
        _say(f"\n{complaint}")


if __name__ == "__main__":
    sys.exit(main())
