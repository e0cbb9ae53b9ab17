"""The page of results: what finished runs of suites say of their claims, written from their eval.json and nothing else."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from genrep.evaluation.dots import dot_plots
from genrep.evaluation.figures import Figure
from genrep.evaluation.headlines import number
from genrep.evaluation.kept import DETAILS, RECORD, judges_of
from genrep.evaluation.outcome import Outcome, mean_of
from genrep.evaluation.published import Published, agreement
from genrep.evaluation.report import duration
from genrep.evaluation.suite import Suite, arm_of, finished
from genrep.evaluation.suites import SUITES
from genrep.metrics.base import Estimate
from genrep.storage import read_json, write_json, write_text
from genrep.training.run_folder import RunFolder

RUNS, PICTURE = "runs", "samples.png"
PER_CLASS = 10
"""Samples of a class in a picture."""


@dataclass(frozen=True)
class Beside:
    """A paper's ablation beside ours: figures by name, each there and here, as they are read."""

    published: Published
    rows: Sequence[Sequence[tuple[str, str]]]
    """For each of its rows, for each of its figures."""
    effects: Sequence[Sequence[tuple[str, str, str]]]
    """For each effect, for each figure; the third says whether their signs agree."""


@dataclass(frozen=True)
class Section:
    """What the page says of a suite."""

    name: str
    suite: Suite
    claims: Sequence[Figure]
    arms: Sequence[Mapping[str, str]]
    """A row of a table each: figures by their name, as they are read."""
    plots: str
    """Of every seed, as a path from the page."""
    pictures: Mapping[str, str]
    """Of arms, as paths from the page."""
    records: Sequence[Mapping[str, Any]]
    earlier: Mapping[str, Mapping[str, str]]
    """Of runs that were made by other changes than the suite makes now: those."""
    beside: Beside | None
    """A paper's ablation."""

    def all_of(self, *path: str) -> str:
        """The values that the runs have of something, as a person says them."""
        values: list[str] = []
        for record in self.records:
            value: Any = record
            for key in path:
                value = value.get(key, "not recorded")
            values.append(str(value))
        return ", ".join(dict.fromkeys(values))

    @property
    def judges(self) -> tuple[str, ...]:
        """The networks that judged the runs' samples: figures of one compare."""
        return tuple(dict.fromkeys(name for record in self.records for name in record.get("judges", ("not recorded",))))

    @property
    def training_time(self) -> str:
        """Of a run, from the shortest to the longest."""
        seconds = [record["seconds"]["training"] for record in self.records]
        return f"{duration(min(seconds))} to {duration(max(seconds))}"

    @property
    def memory(self) -> str:
        """That training took at its peak, of the runs of which it is recorded."""
        found = [record["memory_gb"] for record in self.records if "memory_gb" in record]
        return f"{min(found):.2f} to {max(found):.2f} GB" if found else "not recorded"


def keep_runs(name: str, suite: Suite, folder: Path, page: Path) -> None:
    """Copy what a page needs of a suite's finished runs beside it: figures, where they were computed, a picture of one seed of each arm.

    Args:
        folder: in which the runs lie.
        page: the file, without its ending.
    """
    for run in suite.runs(folder):
        if not finished(folder, run):
            continue
        source, kept = RunFolder(folder / run), page / RUNS / name / run
        if source.path.resolve() == kept.resolve():
            continue
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.evaluation, kept / "eval.json")
        with source.metrics.open(newline="", encoding="utf-8") as file:
            training, memory = map(max, zip(*((float(row["seconds"]), float(row["memory_gb"])) for row in csv.DictReader(file)), strict=True))
        seconds = {"training": training, "evaluation": sum(read_json(source.path / DETAILS)["seconds"].values())}
        record = {
            "seconds": seconds,
            "memory_gb": memory,
            "env": read_json(source.env),
            "changes": suite.changes(arm_of(run)),
            "judges": judges_of(source.path),
        }
        write_json(kept / RECORD, record)
        strips = sorted(source.samples.glob("class_*.png"))
        if strips and run.endswith("-0"):
            _sheet(strips).save(kept / PICTURE, optimize=True)


def write_page(page: Path) -> Path:
    """Write PAGE.md of all suites whose runs lie beside it.

    Raises:
        ValueError: there are none.
    """
    sections = list(_sections(page))
    if not sections:
        raise ValueError(f"{page / RUNS} has no finished run of any suite; `genrep bench evidence RUNS --suite NAME --keep {page}` puts some there.")
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters["figure"] = number
    path = page.with_suffix(".md")
    write_text(path, pages.get_template("results.md.jinja").render(sections=sections, folder=page.name if page.is_absolute() else page.as_posix()))
    return path


def _sections(page: Path) -> Iterator[Section]:
    for name, suite in SUITES.items():
        folder = page / RUNS / name
        outcome = Outcome(suite, folder)
        if not outcome.runs:
            continue
        claims = [claim for claim in outcome.claims() if claim.value is not None]
        plots = page / f"{name}.svg"
        values = outcome.seeds()
        run_arms = [arm for arm in suite.arms if any(of_arms[arm] for of_arms in values.values())]
        write_text(plots, dot_plots(values, run_arms, label=f"Every seed of suite {name}"))
        pictures = {arm_of(run): f"{page.name}/{RUNS}/{name}/{run}/{PICTURE}" for run in outcome.runs if (folder / run / PICTURE).is_file()}
        records = {run: read_json(folder / run / RECORD) for run in outcome.runs}
        earlier = _made_earlier(suite, records)
        yield Section(
            name, suite, claims, _rows(outcome), f"{page.name}/{plots.name}", pictures, list(records.values()), earlier, _beside(outcome, suite.published)
        )


def _made_earlier(suite: Suite, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, str]]:
    """Runs, those of equal changes together, that were made by others than the suite makes now."""
    found: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run, record in records.items():
        if record.get("changes", now := suite.changes(arm_of(run))) != now:
            found.setdefault(tuple(record["changes"].items()), []).append(run)
    return {", ".join(runs): dict(changes) for changes, runs in found.items()}


def _rows(outcome: Outcome) -> list[dict[str, str]]:
    """A row for each arm that has a finished run: how many, and the mean of each figure with its interval."""
    rows = []
    for arm in outcome.suite.arms:
        num = sum(arm_of(run) == arm for run in outcome.runs)
        if num:
            rows.append({"arm": arm, "runs": str(num)} | {key: _said(mean_of(outcome.values(arm, key))) for key in outcome.suite.shown})
    return rows


def _beside(outcome: Outcome, published: Published | None) -> Beside | None:
    """What a paper and the finished runs say of the same settings."""
    if published is None:
        return None
    rows = [[(number(row.figures[key], 4), _said(mean_of(outcome.values(row.arm, key)))) for key in published.figures] for row in published.rows]
    effects = []
    for effect in published.effects:
        found = [(published.size(effect, key), outcome.differences(effect.arms, key)) for key in published.figures]
        effects.append([(number(there, 4), _said(mean_of(here)), agreement(there, mean_of(here), len(here))) for there, here in found])
    return Beside(published, rows, effects)


def _said(found: Estimate | None) -> str:
    """A mean and half its interval, where there is one."""
    if found is None:
        return number(None)
    half = "" if math.isnan(found.low) else f" ± {number((found.high - found.low) / 2, 4)}"
    return number(found.value, 4) + half


def _sheet(strips: Sequence[Path]) -> Image.Image:
    """The first samples of every class, a class a row."""
    rows = [Image.open(strip).convert("L") for strip in strips]
    side = rows[0].height
    sheet = Image.new("L", (PER_CLASS * side, side * len(rows)))
    for i, row in enumerate(rows):
        sheet.paste(row.crop((0, 0, PER_CLASS * side, side)), (0, i * side))
    return sheet
