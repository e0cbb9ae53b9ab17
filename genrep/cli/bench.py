"""Set the figures of a finished, evaluated run beside their targets, and write them as json into the run folder."""

from __future__ import annotations

import argparse
from pathlib import Path

TAKES_OVERRIDES = False
MISSED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` accepts."""
    parser.add_argument("name", metavar="NAME", help="which figures: those of the recipe `demo` or `showcase`, written as NAME.json")
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="folder of an evaluated run (default: runs/NAME)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed")


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 with `--check` and a missed target."""
    from genrep.cli.figures import TARGETS, figures_of, print_targets, write_figures
    from genrep.registry import lookup
    from genrep.storage import read_json

    lookup(TARGETS, args.name, "bench")
    run = args.run or Path("runs") / args.name
    results = run / "eval.json"
    if not results.is_file():
        raise FileNotFoundError(f"{run} has no eval.json: expected a finished run; `genrep eval {run}` measures it.")
    figures = figures_of(args.name, read_json(results))
    print_targets(figures)
    print(f"wrote {write_figures(run, args.name, figures)}")
    missed = [figure.name for figure in figures if not figure.met]
    if missed:
        print(f"missed: {'; '.join(missed)}")
    return MISSED if args.check and missed else 0
