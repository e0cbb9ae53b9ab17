"""Finished runs side by side: the settings in which they differ, and every figure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrep.evaluation.comparison import Row

TAKES_OVERRIDES = False
WIDTH = 1_000
"""Of a table that goes to a file: no line of it is cut."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `compare` accepts."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of two evaluated runs or more; differences are from the first")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write this: as a page with curves and pictures, where it ends in .html; else as json")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def run(args: argparse.Namespace) -> int:
    """Print two tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from genrep.cli.runs import refuse_existing
    from genrep.evaluation.comparison import figures_of_runs, sets_of, setting_said, settings_of_runs
    from genrep.evaluation.kept import judges_of
    from genrep.storage import write_json

    if args.out:
        refuse_existing(args.out, overwrite=args.overwrite)
    rows, settings = figures_of_runs(args.runs), settings_of_runs(args.runs)
    names = list(map(str, args.runs))
    letters = [chr(ord("A") + i) for i in range(len(names))]
    print("\n".join(f"{letter}: {name}" for letter, name in zip(letters, names, strict=True)))
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if settings:
        differing = Table(Column("setting", overflow="fold"), *(Column(letter, overflow="fold") for letter in letters), title="what differs")
        for key, values in settings.items():
            differing.add_row(*(escape(text) for text in (key, *map(setting_said, values))))
        console.print(differing)
    else:
        print("all settings are the same")
    differences = [f"{letter} - A" for letter in letters[1:]]
    columns = (Column(name, overflow="fold") for name in ("figure", *letters, *differences))
    table = Table(*columns, title="as measured by `genrep eval`, with 95 % intervals; the best in bold")
    for row in rows:
        table.add_row(escape(row.key), *_cells(row), *(row.difference_said(i) for i in range(1, len(names))))
    console.print(table)
    if rows and not all(rows[0].alike):
        print("runs that were measured on other sets do not compare with A:")
        print("\n".join(f"{letter}: {', '.join(sorted(sets_of(run)))}" for letter, run in zip(letters, args.runs, strict=True)))
    judges = {letter: ", ".join(judges_of(run)) for letter, run in zip(letters, args.runs, strict=True)}
    if len(set(filter(None, judges.values()))) > 1:
        print("KID, FID and what is recognised do not compare, samples were judged by different networks:")
        print("\n".join(f"{letter}: {names or 'not recorded'}" for letter, names in judges.items()))
    print("*: more than both intervals, of testing on so few images, leave open. What another seed would change is not in them.")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.out and args.out.suffix == ".html":
        from genrep.evaluation.comparison_page import write_comparison

        print(f"wrote {write_comparison(args.out, args.runs)}")
    elif args.out:
        write_json(args.out, {"runs": names, "settings": settings, "figures": {row.key: {"values": row.values, "intervals": row.intervals} for row in rows}})
        print(f"wrote {args.out}")
    return 0


def _cells(row: Row) -> list[str]:
    from rich.markup import escape

    said = [escape(row.said(i)) for i in range(len(row.values))]
    return [f"[bold]{text}[/bold]" if i == row.best else text for i, text in enumerate(said)]
