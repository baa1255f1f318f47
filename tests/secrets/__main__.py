"""The command; see the package."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.secrets.forms import forms, search
from tests.secrets.run import Session


def main() -> None:
    """Go through everything, search, and say what was found; exit 1 if that is anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.secrets", description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep what was written, in this folder, which must not be there yet")
    parser.add_argument("--plant", choices=sorted(forms("x" * 20)), help="leak a key on purpose, in this form")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bg-secrets-")))
        folder.mkdir(exist_ok=given.keep is None, parents=True)
        began = time.monotonic()
        session = Session(folder)
        session.whole()
        if given.plant:
            session.written.add("planted.txt", b"... " + forms(session.keys[0])[given.plant][-1] + b" ...")
        searched, foreign = search(session.written.folder, session.keys), search(folder / "foreign", session.keys)
        kinds = sorted(forms(session.keys[0]))
        print(f"{session.lives} lives with {len(session.keys)} keys in {time.monotonic() - began:.0f} s")
        print(f"{session.written.errors} exceptions, {len(session.written.kinds)} kinds of events")
        print(f"each key looked for {', '.join(kinds)}")
        files: dict[str, list[int]] = {}
        for path in session.written.folder.rglob("*"):
            if path.is_file():
                parts = path.relative_to(session.written.folder).parts
                counted = files.setdefault(parts[0], [0, 0])
                counted[0] += 1
                counted[1] += path.stat().st_size
        for name, (count, size) in sorted(files.items()):
            print(f"  {name:<28}{count:>5} files {size:>12} bytes")
        print(f"variables of frames that are not the library's, for comparison: {foreign}")
        for found in searched.found:
            print(f"  {found}", file=sys.stderr)
        print(searched)
        sys.exit(1 if searched.found else 0)


if __name__ == "__main__":
    main()
