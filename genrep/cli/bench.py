"""Set the figures of a finished, evaluated run beside their targets, and write them as json into the run folder."""

from __future__ import annotations

import argparse
from pathlib import Path

TAKES_OVERRIDES = False
MISSED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` accepts."""
    parser.add_argument("name", metavar="demo", help="which figures: `demo`, those of the demo, written as demo.json")
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"), metavar="RUN", help="run folder (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed")


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 with `--check` and a missed target."""
    from genrep.cli.figures import demo_figures, print_targets, write_demo
    from genrep.registry import lookup
    from genrep.storage import read_json

    figures_of = lookup({"demo": demo_figures}, args.name, "bench")
    results = args.run / "eval.json"
    if not results.is_file():
        raise FileNotFoundError(f"{args.run} has no eval.json: expected a finished run; `genrep eval {args.run}` measures it.")
    figures = figures_of(read_json(results))
    print_targets(figures)
    print(f"wrote {write_demo(args.run, figures)}")
    missed = [figure.name for figure in figures if not figure.met]
    if missed:
        print(f"missed: {'; '.join(missed)}")
    return MISSED if args.check and missed else 0
