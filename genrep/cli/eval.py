"""Measure a finished run on its test images; write eval.json, samples and report.html into it. With --data: what it sees in other data.
With --weights best: what the model sees that was best on validation images.

Several processes share the work: `torchrun --nproc-per-node=N -m genrep eval RUN`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from genrep.cli.arguments import add_device

TAKES_OVERRIDES = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `eval` accepts."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--data", metavar="SET,FOLDER,...", help="other data, of the same classes or some of them: perception alone, written into RUN/eval-DATA.json"
    )
    parser.add_argument(
        "--weights", default="last", metavar="last|best", help="best: the model that saw validation images best; perception alone, into RUN/eval-best-DATA.json"
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate, then print the figures."""
    from genrep.cli.figures import print_figures, print_next
    from genrep.cli.runs import model_folder
    from genrep.cli.screen import say_environment
    from genrep.evaluation import evaluate, evaluate_elsewhere
    from genrep.evaluation.kept import DETAILS
    from genrep.processes import is_first, joined
    from genrep.storage import read_json

    model_folder(args.run)
    sets, weights = tuple(name for name in (args.data or "").split(",") if name.strip()), args.weights
    if args.data is not None and not sets:
        raise ValueError(f"`--data` must name a data set or a folder; found `{args.data}`.")
    elsewhere = bool(sets) or weights != "last"
    with joined():
        if not is_first():
            _ = evaluate_elsewhere(args.run, sets, weights=weights) if elsewhere else evaluate(args.run)
            return 0
        say_environment()
        if elsewhere:
            return _elsewhere(args.run, sets, weights)
        figures = evaluate_run(args.run, allow_network=False)
        print_figures(figures, title="on val" if read_json(args.run / DETAILS)["of_val"] else "on test")
    print_next(args.run)
    return 0


def _elsewhere(path: Path, sets: tuple[str, ...], weights: str) -> int:
    from genrep.cli.figures import print_figures
    from genrep.cli.screen import make_progress
    from genrep.evaluation import evaluate_elsewhere

    with make_progress() as progress:
        written, figures = evaluate_elsewhere(path, sets, weights=weights, progress=progress)
    chosen_by = ", on val, by which it was chosen" if any(name.endswith("/n_val") for name in figures) else ""
    print_figures(figures, title=f"on {', '.join(sets)}" if sets else f"of the best model{chosen_by}")
    print(f"wrote {written}")
    return 0


def evaluate_run(path: Path, *, allow_network: bool) -> dict[str, float]:
    """Figures of a run; its report is written too, and every file named."""
    from genrep.cli.screen import make_progress
    from genrep.evaluation import evaluate, write_report
    from genrep.evaluation.kept import DETAILS
    from genrep.storage import read_json

    with make_progress() as progress:
        figures = evaluate(path, allow_network=allow_network, progress=progress)
    report = write_report(path)
    for note in read_json(path / DETAILS)["notes"]:
        print(f"note: {note}")
    pictures = f"wrote {path / 'samples'}\n" if any((path / "samples").iterdir()) else ""
    print(f"wrote {path / 'eval.json'}\n{pictures}wrote {report}")
    return figures
