"""The picture in the README is one that can be read on light and on dark, and shows what it is said to."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.picture import PANELS, PICTURE, draw

SVG = "{http://www.w3.org/2000/svg}"


def test_a_run_without_what_is_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="none of the tables"):
        draw({"tables": [{"subject": "memory", "title": "something else"}]})


def test_the_picture_shows_every_panel_with_budgetguard_in_it() -> None:
    root = ET.fromstring(PICTURE.read_text("utf-8"))  # noqa: S314 - our own
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    for _, title in PANELS:
        assert any(title in text for text in texts), title
    assert sum(text.startswith("budgetguard") for text in texts) > len(PANELS)
    (style,) = [style for style in root.iter(f"{SVG}style") if "prefers-color-scheme" in (style.text or "")]
    assert "!important" in (style.text or "")


def test_the_readme_shows_it() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert "(docs/benchmarks.svg)" in readme
