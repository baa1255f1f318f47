"""Makes everything go wrong that can, from a seed. Exits with 1 if a promise was broken. ``make chaos``.

A run is a sequence of short scenes: one provider, one store, some workers, and a few faults. Every pass through the
scenes has every fault once, and the first pass is always finished from two minutes on. In the last scenes everything
happens at once.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.faults import LEASE
from tests.chaos.figures import table
from tests.chaos.plan import Scene, everything, first_pass, scenes
from tests.chaos.scene import Outcome, key_of, play
from tests.secrets.forms import search

_SCENE_SECONDS = 20.0
"""How long a scene takes about: none is begun that would not be over in time."""
_LAST_SECONDS = 35.0
_LAST = ("sqlite", "valkey")
_LANES = 3
_WHOLE_PASS = 2.0
"""Minutes from which on every fault has its turn, however slow the machine is."""
_MOUNTS = "CHAOS_MOUNTS"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, metavar="N", help="the same scenes again; new ones without this")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="about how long (%(default)s)")
    parser.add_argument("--scenes", type=int, metavar="N", help="the first so many, however long they take")
    parser.add_argument("--scene", type=int, metavar="N", help="only this one; -1 and -2 are the last ones")
    parser.add_argument("--fault", metavar="NAME", help="only scenes with this fault")
    parser.add_argument("--lanes", type=int, default=_LANES, metavar="N", help="scenes at the same time (%(default)s)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave all the library wrote here, where the keys are looked for"
    )
    parser.add_argument("--plan", action="store_true", help="print the first pass, and play nothing")
    options = parser.parse_args(arguments)
    seed = random.randrange(10_000) if options.seed is None else options.seed
    if options.plan:
        most = options.scenes or first_pass(seed) + 1
        for scene in itertools.islice(_chosen(seed, options.scene, options.fault), most):
            _say(json.dumps(scene.as_dict()))
        return 0
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, _end)
    return Run(seed, options).play()


def _end(number: int, _: object) -> None:
    """End what was started, in the middle of whatever it is at; scenes are played in threads, which hear no signals."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
    os._exit(128 + number)


def _chosen(seed: int, number: int | None, fault: str | None) -> Iterator[Scene]:
    """List the scenes of a run without end, without the last ones; or the one that is asked for."""
    if number is None:
        yield from (scene for scene in scenes(seed) if fault is None or fault in scene.faults)
    elif number < 0:
        yield everything(seed, number, _LAST[-1 - number])
    else:
        yield from itertools.islice(scenes(seed), number, number + 1)


class Run:
    """One run of chaos."""

    def __init__(self, seed: int, options: argparse.Namespace) -> None:
        self._seed = seed
        self._options = options
        self._folder: Path = options.keep or Path(tempfile.mkdtemp(prefix="bg-chaos-"))
        self._lock = threading.Lock()
        self._outcomes: list[Outcome] = []
        self._keys: list[str] = []
        self._failed = False
        self._first_pass = first_pass(seed)

    def play(self) -> int:
        options = self._options
        part = options.scene is not None or options.scenes is not None or options.fault is not None
        began = time.monotonic()
        last = 0.0 if part or options.minutes < _WHOLE_PASS else _LAST_SECONDS
        until = None if options.scenes else began + max(_SCENE_SECONDS, options.minutes * 60 - last)
        _say(
            f"seed {self._seed}, lease {LEASE:g} s, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, "
            f"{'with' if os.environ.get(_MOUNTS) == '1' else 'without'} small disks of its own; logs in {self._folder}"
        )
        wanted = _chosen(self._seed, options.scene, options.fault)
        self._side_by_side(itertools.islice(wanted, options.scenes), until)
        first = list(self._outcomes)
        if last:
            self._side_by_side(iter([everything(self._seed, -1 - n, store) for n, store in enumerate(_LAST)]), None)
        return self._report(first, self._outcomes[len(first) :], time.monotonic() - began)

    def _side_by_side(self, wanted: Iterator[Scene], until: float | None) -> None:
        def lane() -> None:
            while True:
                with self._lock:
                    scene = next(wanted, None)
                if scene is None or (until is not None and self._is_late(scene, until)):
                    return
                self._play(scene)

        lanes = [threading.Thread(target=lane) for _ in range(self._options.lanes)]
        for thread in lanes:
            thread.start()
        for thread in lanes:
            thread.join()

    def _is_late(self, scene: Scene, until: float) -> bool:
        if 0 <= scene.number <= self._first_pass and self._options.minutes >= _WHOLE_PASS:
            return False
        return bool(self._outcomes) and time.monotonic() + _SCENE_SECONDS > until

    def _play(self, scene: Scene) -> None:
        name = f"scene-{scene.number:03}" if scene.number >= 0 else f"last-{-scene.number}"
        try:
            outcome = play(scene, self._folder / name, keep=True)
        except Exception as error:  # noqa: BLE001 - the others go on
            outcome = Outcome(scene=scene, injected=dict.fromkeys(scene.faults, 0))
            outcome.broken.append(f"the scene could not be played: {type(error).__name__}: {error}")
        with self._lock:
            self._outcomes.append(outcome)
            self._keys.append(key_of(scene))
            self._show(outcome)

    def _show(self, outcome: Outcome) -> None:
        scene = outcome.scene
        word = "BROKEN" if outcome.broken else "kept"
        _say(f"{scene.number:>4}  {word:<7} {outcome.calls:>4} calls  {scene.title}")
        for broken in outcome.broken:
            _say(f"      {broken}")
        if outcome.broken:
            self._failed = True
            _say(f"      again: make chaos SEED={self._seed} SCENE={scene.number}")

    def _report(self, first: list[Outcome], last: list[Outcome], seconds: float) -> int:
        _say(f"\n{table(first, last)}\n{seconds / 60:.1f} minutes, seed {self._seed}.")
        searched = search(self._folder, self._keys)
        for found in searched.found:
            _say(f"  {found}")
        _say(f"\n{len(self._keys)} keys were used; {searched}.")
        self._failed = self._failed or bool(searched.found)
        if not self._failed:
            _say("Every promise was kept.")
            if self._options.keep is None:
                shutil.rmtree(self._folder, ignore_errors=True)
            return 0
        _say(f"A promise was broken. The whole run again: make chaos SEED={self._seed}")
        return 1


def _with_mounts() -> None:
    """Begin again where small disks can be mounted that nobody else sees, if that is allowed here."""
    if sys.platform != "linux" or _MOUNTS in os.environ or shutil.which("unshare") is None:
        return
    own = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        own = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run([*own, "mount", "-t", "tmpfs", "try", folder], check=False, capture_output=True)
    os.environ[_MOUNTS] = "0" if tried.returncode else "1"
    if not tried.returncode:
        os.execvp(own[0], [*own, sys.executable, "-m", "tests.chaos", *sys.argv[1:]])  # noqa: S606 - our own command


if __name__ == "__main__":
    _with_mounts()
    sys.exit(main())
