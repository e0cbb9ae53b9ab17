"""Train, evaluate and report in one go: recipe `demo`, 15 to 45 minutes on 2 cores. Fetches Fashion-MNIST (30 MB) if it is not there yet."""

from __future__ import annotations

import argparse
from pathlib import Path

from genrep.cli.arguments import add_device

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `demo` accepts."""
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder; default: runs/demo-DATE")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train unless that is done, evaluate, and set the figures beside their targets."""
    from genrep.cli.eval import evaluate_run
    from genrep.cli.figures import figures_of, print_figures, print_next, print_targets
    from genrep.cli.runs import default_run
    from genrep.cli.train import train_into
    from genrep.evaluation.figures import write_figures

    out = args.out or default_run("demo")
    code = train_into(out, args, recipe="demo", allow_network=True)
    if code == 0:
        measured = evaluate_run(out, allow_network=True)
        print_figures(measured)
        figures = figures_of("demo", measured)
        print_targets(figures)
        print(f"wrote {write_figures(out, 'demo', figures)}")
        print_next(out)
    return code
