"""Train a recipe, a config file, or what suits a folder of pictures, into a run folder. The same command continues a stopped run; a finished one
is left as it is.

Several processes, on one machine or on many: `torchrun --nproc-per-node=N -m genrep train ...`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

from genrep.cli.arguments import add_device, program

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `train` accepts."""
    parser.add_argument("recipe", metavar="RECIPE|FILE|FOLDER", help="a recipe by name, a config file such as a run's config.json, or a folder of pictures")
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder; default: runs/RECIPE-DATE")
    init = "begin from a finished run or model folder, or from `packaged`, the model that comes with the package; on the same or on other classes"
    parser.add_argument("--init", type=Path, metavar="MODEL", help=init)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Train, then say what to do next."""
    from genrep.cli.runs import default_run
    from genrep.processes import is_first, joined

    out = args.out or default_run(args.recipe)
    with joined():
        code = train_into(out, args, recipe=args.recipe, allow_network=False, init=args.init)
        if code == 0 and is_first():
            print(f"\nnext:\n  {program()} eval {shlex.quote(str(out))}")
    return code


def train_into(out: Path, args: argparse.Namespace, *, recipe: str, allow_network: bool, init: Path | None = None) -> int:
    """Train with a live display; 130 where it was stopped, after saying how to go on."""
    from genrep.cli.runs import resolve_config
    from genrep.cli.screen import make_progress, say_environment
    from genrep.cli.stopping import stop_on_signal
    from genrep.evaluation.pictures import draw_data
    from genrep.processes import is_first
    from genrep.training import Interrupted, train

    config = resolve_config(recipe, args.changes, init=init)
    if is_first():
        say_environment()
    finished = (out / "model").is_dir()
    try:
        with stop_on_signal() as stop, make_progress() if is_first() else nullcontext() as progress:
            train(config, out, command=args.line, allow_network=allow_network, progress=progress, stop=stop, look=draw_data)
    except Interrupted:
        if not is_first():
            return 130
        line = args.line if args.out else f"{args.line} --out {shlex.quote(str(out))}"
        print(f"genrep: stopped; the state is saved in {out}. This continues it:\n  {line}", file=sys.stderr)
        return 130
    if finished and is_first():
        print(f"{out} is a finished run of this configuration; nothing is left to train.")
    return 0
