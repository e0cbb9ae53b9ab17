"""What an evaluated run keeps besides its figures, and what a page of results keeps of it."""

from __future__ import annotations

from pathlib import Path

from genrep.storage import read_json

DETAILS = "eval_details.json"
"""Of a run: tables, notes and times."""
RECORD = "run.json"
"""Of a page of results."""


def judges_of(run: Path) -> tuple[str, ...]:
    """The networks that judged the samples of an evaluated run, or of one that a page of results keeps, by name; none where that is not recorded."""
    if (run / RECORD).is_file():
        return tuple(read_json(run / RECORD).get("judges", ()))
    details = read_json(run / DETAILS) if (run / DETAILS).is_file() else {}
    found = [details.get(part, {}).get("judge") for part in ("generation", "generated_scenes")]
    return tuple(name for name in found if name)
