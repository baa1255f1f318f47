"""Draws the last results as one SVG, readable on light and on dark: ``python -m benchmarks.picture``."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

from benchmarks.peers import peer
from benchmarks.results import LATEST
from benchmarks.show import number

__all__ = ["PICTURE", "draw", "main"]

PICTURE = Path(__file__).parent.parent / "docs" / "benchmarks.svg"

PANELS = (
    ("memory", "reserve and settle, one thread"),
    ("memory", "async with reserve(), asyncio"),
    ("transport", "one request through a transport, async"),
    ("herd", "1,000 callers, no usable reading"),
    ("schedule", "exclusive account, limit 10"),
)
"""Subject, and what the table's title holds. Tables that a run does not have are left out."""

ASIDE = {"floor: credits held", "threading.Semaphore", "a transport that passes on", "limits MovingWindow hit()"}
"""Rows that only the tables show."""

_COLOURS = {"ours": "#2f81f7", "floor": "#9aa4af", "yardstick": "#9aa4af", "peer": "#d29922"}
_INK = "#7a8490"
"""Between light and dark; where the reader's choice is known, the style below takes a clearer one."""
_STYLE = f"""<style>
:root {{ --ink: #424a53 }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #c9d1d9 }} }}
text {{ fill: var(--ink, {_INK}) !important }}
</style>"""
_WIDE = 46


def draw(document: dict[str, Any]) -> str:
    """Draw a run's results; tables that are not there are left out.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        ValueError: If the run holds none of the tables that are drawn.
    """
    panels = [table for subject, title in PANELS if (table := _table(document, subject, title)) is not None]
    if not panels:
        raise ValueError("the run holds none of the tables that are drawn")
    matplotlib = peer("matplotlib")
    matplotlib.use("svg")
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "budgetguard",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "text.color": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with matplotlib.rc_context(settings):
        heights = [0.2 * len(_rows(table)) + 0.6 for table in panels]
        figure = peer("matplotlib.figure").Figure(figsize=(8.8, sum(heights) + 0.7), layout="constrained")
        grid = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)
        for axes, table in zip(grid[:, 0], panels, strict=True):
            _panel(axes, table)
        _legend(figure)
        machine = document["machine"]
        figure.supxlabel(
            "Medians and quartiles of paired, interleaved rounds, on logarithmic scales; to the left is better. "
            f"{machine['processor']}, {machine['cores']} cores, {machine['python']}",
            fontsize=7.5,
        )
        made = io.StringIO()
        figure.savefig(made, format="svg", transparent=True, metadata={"Date": None})
    text = "\n".join(line.rstrip() for line in made.getvalue().splitlines()) + "\n"
    return text.replace("<defs>", f"{_STYLE}\n<defs>", 1)


def _table(document: dict[str, Any], subject: str, title: str) -> dict[str, Any] | None:
    tables: list[dict[str, Any]] = document["tables"]
    fitting = (table for table in tables if table["subject"] == subject and title in table["title"])
    return next(fitting, None)


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in table["rows"] if row["ratio"] is not None and row["name"] not in ASIDE]


def _panel(axes: Any, table: dict[str, Any]) -> None:
    rows = sorted(_rows(table), key=lambda row: row["ratio"]["middle"], reverse=True)
    for place, row in enumerate(rows):
        low, middle, high = (row["ratio"][name] for name in ("low", "middle", "high"))
        axes.plot([low, high], [place, place], color=_COLOURS[row["kind"]], linewidth=4, alpha=0.45)
        axes.plot(middle, place, marker="o", markersize=6, color=_COLOURS[row["kind"]])
        axes.text(max(middle, high), place, f"   {_label(table, row)}", va="center", fontsize=8)
    axes.axvline(1, color=_INK, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_yticks(range(len(rows)), [_short(row["name"]) for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["kind"] == "ours" else "normal")
    axes.set_xscale("log")
    least = min(row["ratio"]["low"] for row in rows)
    most = max(row["ratio"]["high"] for row in rows)
    axes.set_xlim(least / (most / least) ** 0.05, most * (most / least) ** 0.45)  # the labels need room
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_title(f"{table['title']} (1 = {table['reference']})", loc="left", fontsize=9, fontweight="bold")
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.minorticks_off()
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def _legend(figure: Any) -> None:
    line = peer("matplotlib.lines").Line2D
    named = (("budgetguard", "ours"), ("floors and yardsticks", "floor"), ("peers", "peer"))
    handles = [line([], [], color=_COLOURS[kind], marker="o", linewidth=0, label=name) for name, kind in named]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8.5)


def _label(table: dict[str, Any], row: dict[str, Any]) -> str:
    parts = [f"{number(row['ratio']['middle'])} x", f"{number(row['value']['middle'])} {table['unit']}"]
    for name, word in (("requests", "requests"), ("refusals", "refusals")):
        if name in row["columns"]:
            parts.append(f"{row['columns'][name]:,.0f} {word if row['columns'][name] != 1 else word[:-1]}")
    return ", ".join(parts)


def _short(name: str) -> str:
    return name if len(name) <= _WIDE else name[: _WIDE - 1] + "…"


def main(argv: list[str] | None = None) -> None:
    """Draw the last run, or another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picture", description="Draw what was measured.")
    parser.add_argument("--json", type=Path, default=LATEST, metavar="FILE", help="the results")
    parser.add_argument("--out", type=Path, default=PICTURE, metavar="FILE", help="the picture")
    arguments = parser.parse_args(argv)
    arguments.out.write_text(draw(json.loads(arguments.json.read_text("utf-8"))), "utf-8")
    print(f"drawn: {arguments.out}")


if __name__ == "__main__":
    main()
