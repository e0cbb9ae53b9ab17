"""Finished runs side by side as one HTML file: figures, settings that differ, what each sees and makes of the same, and how each learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.evaluation.charts import curves, line_of
from genrep.evaluation.comparison import figures_of_runs, setting_said, settings_of_runs
from genrep.evaluation.draw import data_uri
from genrep.evaluation.kept import DETAILS, judges_of
from genrep.evaluation.report import CURVES, Chart, metrics, templates
from genrep.storage import read_json, write_text
from genrep.training.run_folder import RunFolder


@dataclass(frozen=True)
class Beside:
    """One thing that several runs have a picture of; None where a run has none."""

    name: str
    pictures: Sequence[str | None]


def write_comparison(path: Path, runs: Sequence[Path]) -> Path:
    """Write the page; the first run is what the others are compared with.

    Raises:
        ValueError: fewer than two runs.
        FileNotFoundError: a run was not evaluated.
    """
    rows, settings, folders = figures_of_runs(runs), settings_of_runs(runs), [RunFolder(run) for run in runs]
    details = [read_json(folder.path / DETAILS) if (folder.path / DETAILS).is_file() else {} for folder in folders]
    page = templates().get_template("comparison.html.jinja")
    judges = [", ".join(judges_of(run)) for run in runs]
    text = page.render(
        runs=[(chr(ord("A") + i), run, line_of(i)) for i, run in enumerate(runs)],
        rows=rows,
        alike=all(rows[0].alike) if rows else True,
        settings={name: [setting_said(value) for value in values] for name, values in settings.items()},
        judges=judges if len(set(filter(None, judges))) > 1 else [],
        scenes=_scenes(folders, details),
        samples=_samples(folders, details),
        charts=_charts(folders),
    )
    write_text(path, text)
    return path


def _scenes(folders: Sequence[RunFolder], details: Sequence[Mapping[str, Any]]) -> list[Beside]:
    """The first images of the set, where all that see anything saw the same: the truth, and what each run sees."""
    seen = [each.get("scenes", {}) for each in details]
    if len({(each["set"], each["n"]) for each in seen if each}) != 1:
        return []
    drawn = [{one["index"]: one for one in each.get("pictures", ()) if one["group"] == "first"} for each in seen]
    shared = sorted(set.intersection(*(set(each) for each in drawn if each)))
    found = []
    for index in shared:
        truth = next(folder.samples / each[index]["truth"] for folder, each in zip(folders, drawn, strict=True) if each)
        pictures = [data_uri(folder.samples / each[index]["prediction"]) if each else None for folder, each in zip(folders, drawn, strict=True)]
        found.append(Beside(str(index), [data_uri(truth), *pictures]))
    return found


def _samples(folders: Sequence[RunFolder], details: Sequence[Mapping[str, Any]]) -> list[Beside]:
    """Samples of the same wish from the same seeds."""
    made = [{strip["class"]: strip["file"] for strip in each.get("pictures", {}).get("samples", ())} for each in details]
    names = dict.fromkeys(name for each in made for name in each)
    files = {name: [each.get(name) for each in made] for name in names}
    return [Beside(name, [file and data_uri(folder.samples / file) for folder, file in zip(folders, each, strict=True)]) for name, each in files.items()]


def _charts(folders: Sequence[RunFolder]) -> list[Chart]:
    """What was recorded of training, of all runs in one chart each."""
    rows = [metrics(folder.metrics) for folder in folders]
    charts = []
    for key, title in {**CURVES, "align/cosine": "cosine of the two gradients"}.items():
        several = [[(row["step"], row[key]) for row in of_run if key in row] for of_run in rows]
        if any(value for points in several for _, value in points):
            charts.append(Chart(title, "", curves(several, label=f"{title} over training steps")))
    return charts
