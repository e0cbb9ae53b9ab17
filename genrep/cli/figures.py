"""The final table: figures, their intervals, and what the demo should reach beside them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from genrep.cli.arguments import program
from genrep.evaluation.figures import Figure


@dataclass(frozen=True)
class Target:
    """What a figure of eval.json should reach: a number, or another figure."""

    key: str
    name: str
    at_least: float | str
    how: str
    """How it is measured; `{beside}` is the value of the figure that puts it in proportion."""
    beside: str = ""
    slack: float = 0.0
    """How far below it the figure may stay."""


BORDER = 3
"""What a column of a table needs beside its text."""

LONG = 12
"""What is longer in a heading is broken."""

REACHED = {True: "yes", False: "no", None: "not judged"}

LINEAR, JUDGE = "classification/logistic_regression_top1", "generation/judge_accuracy"


def _common(top1: float, ap50: float, miou: float, samples: float) -> tuple[Target, ...]:
    return (
        Target("classification/top1", "top-1, one garment", top1, "share of test images; logistic regression on pixels: {beside}", LINEAR),
        Target("classification/top1", "no worse than linear", LINEAR, "the target is the top-1 of logistic regression on the same pixels"),
        Target("detection/ap50", "AP50, scenes", ap50, "COCO's AP at IoU .50, mean over classes, test scenes"),
        Target("segmentation/miou_foreground", "mIoU without background, scenes", miou, "mean over classes, pixels of all test scenes"),
        Target("generation/sample_accuracy", "samples recognised", samples, "by a CNN trained on real images; the judge on real test images: {beside}", JUDGE),
    )


RECALL = Target(
    "generation/recall",
    "recall of samples",
    "generation/recall_unguided",
    "share of real test images near a sample; may stay .05 below unguided samples, the target; real images get {beside}",
    "generation/recall_real",
    slack=0.05,
)

DEPTH = Target("depth/order", "depth order, scenes", 0.85, "share of pairs of touching garments of which the nearer one is told, test scenes")

TARGETS = {"demo": _common(0.84, 0.40, 0.40, 0.60), "showcase": (*_common(0.90, 0.75, 0.65, 0.88), DEPTH, RECALL)}
"""What the recipes should reach on test."""


def figures_of(name: str, figures: Mapping[str, float]) -> list[Figure]:
    """The figures of `eval.json` that the recipe `name` of `TARGETS` is measured by, each with its target."""
    return [_figure(figures, target) for target in TARGETS[name]]


def _figure(figures: Mapping[str, float], target: Target) -> Figure:
    value, low, high = (figures.get(f"{target.key}{end}") for end in ("", "_low", "_high"))
    bound = figures.get(target.at_least) if isinstance(target.at_least, str) else target.at_least
    return Figure(
        name=target.name,
        value=value,
        interval=None if low is None or high is None else (low, high),
        unit="0 to 1",
        target=bound,
        met=value is not None and bound is not None and value >= bound - target.slack,
        how=target.how.format(beside=_number(figures.get(target.beside))),
    )


def print_figures(figures: Mapping[str, float], *, title: str = "on test") -> None:
    """Everything in eval.json."""
    table = Table("figure", "value", "95 % interval", title=title)
    for key, value in figures.items():
        if not key.endswith(("_low", "_high")):
            table.add_row(key, _number(value), _interval(figures.get(f"{key}_low"), figures.get(f"{key}_high")))
    Console().print(table)


def print_targets(figures: Sequence[Figure]) -> None:
    """Figures beside their targets, then how each was measured."""
    table = Table(Column("figure", overflow="fold"), "measured", "95 % interval", "target", "reached", title="targets")
    for figure in figures:
        table.add_row(figure.name, _number(figure.value), _interval(*(figure.interval or (None, None))), figure.bound, REACHED[figure.met])
    Console().print(table)
    names: dict[str, list[str]] = {}
    for figure in figures:
        names.setdefault(figure.how, []).append(figure.name)
    print("\n".join(f"{'; '.join(each)}: {how}" if len(names) > 1 else how for how, each in names.items()))


def print_grid(figures: Sequence[Figure]) -> None:
    """Figures named `of what: which`, a row for each of the first and a column for each of the second, in as many tables as the screen is too narrow for."""
    rows: dict[str, dict[str, str]] = {}
    for figure in figures:
        of_what, which = figure.name.split(": ")
        spread = "" if figure.interval is None else f" ± {_number((figure.interval[1] - figure.interval[0]) / 2)}"
        rows.setdefault(of_what, {})[which] = _number(figure.value) + spread
    columns = {which: _broken(which) for row in rows.values() for which in row}
    console, widths = Console(), {which: max(map(len, [*name.split("\n"), *(row.get(which, "") for row in rows.values())])) for which, name in columns.items()}
    title: str | None = "all of them"
    for some in _side_by_side(widths, console.width - max(map(len, rows), default=0) - BORDER - 1):
        table = Table("", *(columns[which] for which in some), title=title)
        for of_what, row in rows.items():
            table.add_row(of_what, *(row.get(which, "") for which in some))
        console.print(table)
        title = None


def _broken(name: str) -> str:
    """A figure's name in short lines.

    >>> _broken("detection/ap50"), _broken("segmentation/miou_foreground")
    ('detection/\\nap50', 'segmentation/\\nmiou_\\nforeground')
    """
    *group, name = name.split("/")
    cut = name.rfind("_") + 1 if len(name) > LONG else 0
    return "\n".join([*(f"{part}/" for part in group), *filter(None, (name[:cut], name[cut:]))])


def _side_by_side(widths: Mapping[str, int], most: int) -> list[list[str]]:
    """Columns in their order, in lines of at most so many characters, borders included; one at least in each.

    >>> _side_by_side({"a": 3, "b": 3, "c": 9}, 12)
    [['a', 'b'], ['c']]
    """
    lines: list[list[str]] = []
    left = 0
    for name, width in widths.items():
        left -= width + BORDER
        if left < 0 or not lines:
            lines.append([])
            left = most - width - BORDER
        lines[-1].append(name)
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def print_next(run: Path) -> None:
    """The next useful commands, with classes of this run."""
    from genrep.storage import read_json

    names = read_json(run / "config.json")["model"]["class_names"]
    if any(set(name) & set("+,@") for name in names):  # which mean something in a row
        names = list(map(str, range(len(names))))
    rows = shlex.quote(",".join([names[-1], "+".join(names[-3:-1])]) if len(names) > 2 else ",".join(names))
    name = shlex.quote(str(run))
    print(f"\nlook at {run / 'report.html'}\nnext:")
    print(f"  {program()} generate --model {name} --classes {rows} --count 8 --out grid.png")
    print(f"  {program()} predict IMAGE... --model {name} --out predictions")
    print(f"  {program()} serve --model {name}")
