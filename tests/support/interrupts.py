"""Ctrl-C at a chosen step of our own code, wherever the interpreter could deliver it."""

from __future__ import annotations

import dis
import gc
import sys
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any, Self

__all__ = ["Interrupt", "steps"]


@cache
def steps(code: CodeType) -> frozenset[int]:
    """Where the interpreter looks for signals: after a call, at the start of a function and at the end of a loop.

    An interrupt after a call has the handlers of that call. Where what comes next has others, it cannot come there.
    """
    found: set[int] = set()
    table: Any = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    before: dis.Instruction | None = None

    def handler(offset: int) -> int | None:
        return next((entry.target for entry in table if entry.start <= offset < entry.end), None)

    for instruction in dis.get_instructions(code):
        called = before is not None and before.opname.startswith(("CALL", "RESUME"))
        if called and before is not None and handler(before.offset) == handler(instruction.offset):
            found.add(instruction.offset)
        if "JUMP_BACKWARD" in instruction.opname and isinstance(instruction.argval, int):
            found.add(instruction.argval)
        before = instruction
    return frozenset(found)


class Interrupt:
    """Raises ``KeyboardInterrupt`` at some steps of code in this thread; counts them all.

    Args:
        ours: Says of a file's name whether its code is meant.
        at: The steps, counted from 0.
    """

    def __init__(self, ours: Callable[[str], bool], *at: int) -> None:
        self._ours = ours
        self._at = at
        self.count = 0
        self.came = 0

    def __enter__(self) -> Self:
        gc.disable()  # the end of something earlier is not what is looked at
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        gc.enable()

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not self._ours(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        at = steps(frame.f_code)  # asked once a call: to look one up takes longer than an instruction

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            if event == "opcode" and frame.f_lasti in at:
                self._step(frame)
            return step

        return step

    def _step(self, frame: FrameType) -> None:
        number, self.count = self.count, self.count + 1
        if number in self._at:
            self.came += 1
            raise KeyboardInterrupt(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
