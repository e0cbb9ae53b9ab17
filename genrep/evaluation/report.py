"""The report of a run: one HTML file with everything inside, made from what the run folder holds."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from genrep import __version__
from genrep.evaluation.charts import confusion_chart, curve, precision_recall_curve, reliability_diagram
from genrep.evaluation.draw import data_uri
from genrep.evaluation.generation import RECALL_TOLERANCE
from genrep.evaluation.headlines import headlines, number
from genrep.evaluation.kept import DETAILS
from genrep.evaluation.robustness import TITLES
from genrep.storage import read_json, write_text
from genrep.training import RunFolder
from genrep.training.step_report import PAIR_COLUMN, PART_COLUMN

Details = Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
    """A titled chart, with the figure it ends in."""

    title: str
    value: str
    svg: Markup


OWN = "own"
"""The recipe of a user's folder (`recipes/own.py`)."""

CURVES = {
    "loss/classification": "classification loss",
    "loss/detection": "detection loss",
    "loss/segmentation": "segmentation loss",
    "loss/multilabel": "multi-label loss",
    "loss/depth": "depth loss",
    "loss/distil": "distillation",
    "loss/denoise": "denoising loss",
    "loss/alignment": "representation alignment",
    "loss/variational": "variational bound",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
_ALIGNMENT = {
    "align/cosine": ("cosine of the two gradients", (-1.0, 1.0)),
    "align/kept_perception": ("share kept of perception", (0.0, 1.0)),
    "align/kept_generation": ("share kept of generation", (0.0, 1.0)),
    "align/norm_ratio": ("norm ratio", None),
    "align/harmful": ("share of steps that would raise a loss", (0.0, 1.0)),
    "align/predicted_perception": ("change of perception's loss, predicted", None),
    "align/actual_perception": ("change of perception's loss", None),
    "align/predicted_generation": ("change of generation's loss, predicted", None),
    "align/actual_generation": ("change of generation's loss", None),
}


def write_report(run: Path | str) -> Path:
    """Write report.html from eval.json, eval_details.json, samples/ and the records of training.

    Raises:
        ValueError: the run has not been evaluated.
    """
    folder = RunFolder(Path(run))
    if not (folder.evaluation.is_file() and (folder.path / DETAILS).is_file()):
        raise ValueError(f"{folder.path} has no eval.json and {DETAILS} to report on. Run `genrep eval {folder.path}` first.")
    write_text(folder.report, render(folder))
    return folder.report


def render(folder: RunFolder) -> str:
    """The page as text."""
    figures, details = read_json(folder.evaluation), read_json(folder.path / DETAILS)
    rows = metrics(folder.metrics)
    config = read_json(folder.config)
    pages = templates()
    pages.filters["picture"] = lambda name: data_uri(folder.samples / name)
    return pages.get_template("report.html.jinja").render(
        name=title(folder.path.resolve().name, config),
        folder=folder.path.resolve().name,
        headlines=headlines(figures, details),
        figures=figures,
        details=details,
        of_val=details.get("of_val", ()),
        tolerance=RECALL_TOLERANCE,
        per_class=per_class(details),
        robustness=robustness(figures),
        charts=_evaluation_charts(details),
        losses=_curves(rows, {key: (title, None) for key, title in CURVES.items()}),
        alignment=_curves(rows, {**_ALIGNMENT, **_parts(rows)}),
        verdict=verdict(details["gates"]),
        training_time=duration(rows[-1]["seconds"]) if rows else "unknown",
        evaluation_time=duration(sum(details["seconds"].values())),
        config=json.dumps(config, indent=2),
        env={"genrep": __version__} | (read_json(folder.env) if folder.env.is_file() else {}),
        command=folder.command.read_text(encoding="utf-8").strip() if folder.command.is_file() else "",
        seed=config.get("train", {}).get("seed", "unknown"),
    )


def templates(*folders: Path) -> Environment:
    """Of pages of html in these folders and here, which show figures as `number` does."""
    where = FileSystemLoader([*folders, Path(__file__).parent])
    pages = Environment(loader=where, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters["figure"] = number
    return pages


def title(run: str, config: Mapping[str, Any]) -> str:
    """What a run is called: its recipe; of folders of one's own, whose recipes are all called so, the run and its data.

    >>> title("cells", {"name": "own", "data": {"sets": ["/photos/blood"]}}), title("blood", {"name": "own", "data": {"sets": ["/photos/blood"]}})
    ('cells: blood', 'blood')
    """
    if config.get("name") != OWN:
        return str(config.get("name", run))
    data = ", ".join(dict.fromkeys(Path(each).name for each in config.get("data", {}).get("sets", ())))
    return f"{run}: {data}" if data not in ("", run) else run


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(75.4), duration(7.0), duration(3700)
    ('1 min 15 s', '7 s', '1 h 01 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def per_class(details: Details) -> list[dict[str, Any]]:
    """One row per class over all tasks; None where not measured."""

    def cell(task: str, name: str, key: str | None = None) -> float | None:
        value = details.get(task, {}).get("per_class", {}).get(name)
        return value[key] if key and value else value

    return [
        {
            "name": name,
            "accuracy": cell("classification", name, "accuracy"),
            "presence": cell("multilabel", name, "ap"),
            "ap": cell("detection", name, "ap"),
            "ap50": cell("detection", name, "ap50"),
            "iou": cell("segmentation", name),
            "samples": cell("generation", name, "accuracy"),
        }
        for name in details["class_names"]
    ]


def robustness(figures: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per figure that was also measured on worse images."""
    return [
        {"name": title, **{kind: figures[f"robustness/{kind}_{key}"] for kind in ("clean", "noise", "corruptions")}}
        for key, title in TITLES.items()
        if f"robustness/clean_{key}" in figures
    ]


def verdict(gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether generation was allowed to teach perception, in words."""
    sentences = []
    for kind in dict.fromkeys(gate["kind"] for gate in gates):
        mine = [gate for gate in gates if gate["kind"] == kind]
        opened = next((gate for gate in mine if gate["teaches"]), None)
        last = mine[-1]
        story = "stayed shut"
        if opened is not None:
            story = f"opened at step {opened['step']:,} and was {'still open' if last['teaches'] else 'shut again'} at the end"
        sentences.append(f"The gate for {kind} posteriors {story}: weight {last['weight']:.3f}, standard error {last['standard_error']:.3f}.")
    return sentences or ["No gate was tried in this run."]


def metrics(path: Path) -> list[dict[str, float]]:
    """Rows of metrics.csv without their empty cells."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def _parts(rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[str, tuple[float, float]]]:
    """The columns with the cosine in each part of the trunk, and of each two losses."""
    columns = dict.fromkeys(key for row in rows for key in row)
    found = [(key, f"cosine {word} {key.removeprefix(kind)}") for kind, word in ((PART_COLUMN, "in"), (PAIR_COLUMN, "of")) for key in columns if kind in key]
    return {key: (title.replace("_", " ").replace("-", " and "), (-1.0, 1.0)) for key, title in found}


def _curves(rows: Sequence[Mapping[str, float]], wanted: Mapping[str, tuple[str, tuple[float, float] | None]]) -> list[Chart]:
    """A chart for each column that has values."""
    second = next((row["step"] for row in rows if row.get("stage") == 2), None)
    charts = []
    for key, (title, y_range) in wanted.items():
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            charts.append(Chart(title, f"{points[-1][1]:.3g}", curve(points, label=f"{title} over training steps", y_range=y_range, mark_x=second)))
    return charts


def _evaluation_charts(details: Details) -> dict[str, Any]:
    """Reliability, confusion and precision-recall charts, as far as measured."""
    charts: dict[str, Any] = {}
    if table := details.get("classification"):
        charts["reliability"] = reliability_diagram(**table["reliability"])
        charts["confusion"] = confusion_chart(table["confusion"], details["class_names"])
    if table := details.get("detection"):
        charts["precision_recall"] = [
            Chart(name, f"{table['per_class'][name]['ap50']:.2f}", precision_recall_curve(values, label=f"Precision against recall of {name}"))
            for name, values in table["precision50"].items()
        ]
    return charts
