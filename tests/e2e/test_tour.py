"""The tour runs, and prints what it says it prints."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest

TOUR = (Path(__file__).parents[2] / "docs" / "tour.md").read_text(encoding="utf-8")
NUMBER = r"\d+\.?\d*(?:e-?\d+)?"


@pytest.mark.slow
def test_the_tour_prints_what_it_shows(tmp_path: Path) -> None:
    """Word by word; figures to a tenth, as rounding differs between machines."""
    script = tmp_path / "tour.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", TOUR, re.DOTALL)))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(script))
    found, shown = printed.getvalue(), "".join(re.findall(r"```text\n(.*?)```", TOUR, re.DOTALL))
    assert re.sub(NUMBER, "#", found) == re.sub(NUMBER, "#", shown)
    for one, other in zip(re.findall(NUMBER, found), re.findall(NUMBER, shown), strict=True):
        assert float(one) == pytest.approx(float(other), rel=0.1, abs=0.011)
