"""Names of calls: nobody can guess them, and no two processes share them."""

from __future__ import annotations

import os
import sys

import pytest

from budgetguard._names import new_name


def test_names_are_96_bits_and_all_different() -> None:
    names = [new_name() for _ in range(2_000)]
    assert len(set(names)) == len(names)
    assert all(len(name) == 24 and int(name, 16) >= 0 for name in names)


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_draws_other_names_than_its_parent() -> None:
    new_name()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, " ".join(new_name() for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = set(os.read(read, 65_536).decode().split())
    os.close(read)
    os.close(write)
    assert len(theirs) == 50
    assert not theirs & {new_name() for _ in range(300)}
