"""Fit anew, on validation labels, how sure the heads of a finished run may be, its posterior's calibration, and what that weighs beside the head. The weights
stay."""

from __future__ import annotations

import argparse
import re
from itertools import count
from pathlib import Path

from genrep.cli.arguments import add_device

TAKES_OVERRIDES = False
BEFORE = re.compile(r"-before(-\d+)?$")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `calibrate` accepts."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run; its model folder is written anew")
    parser.add_argument("--images", type=int, metavar="N", help="validation images of each set, the first ones; default: as many as training fits on")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Fit, write, and say what was found."""
    from genrep.cli.runs import model_folder
    from genrep.cli.screen import event_text
    from genrep.evaluation.evaluate import finished_run
    from genrep.objective import ObjectiveConfig
    from genrep.training.data import RunData
    from genrep.training.distillation import Teacher

    if args.images is not None and args.images < 2:
        raise ValueError(f"`--images` must be at least 2; found {args.images}.")
    model_folder(args.run)
    folder, config, model = finished_run(args.run)
    objective = config.objective
    if "generation" in objective.jobs and not objective.posterior:
        objective = ObjectiveConfig()
    val = RunData(config).first_validation(args.images or objective.gate_images).to(model.device)
    events = Teacher(model, objective, seed=config.train.seed).calibrate(val)
    if not events:
        raise ValueError(f"{args.run} cannot be calibrated: that takes validation images annotated for classification or detection, and the head.")
    model.save_pretrained(folder.model, recipe=f"recipe `{config.name}`")
    if aside := set_aside(folder.path):  # of the model as it was
        print(f"what was said of the model before is in {', '.join(map(str, aside))}; `genrep eval {args.run}` measures anew")
    print("\n".join(map(event_text, events)))
    print(f"wrote {folder.model}")
    return 0


def set_aside(run: Path) -> list[Path]:
    """Rename what speaks of the last weights (eval.json, eval-SETS.json, report.html) to NAME-before, with a number from the second time on; the new paths.

    What speaks of the best ones stays, as do they.
    """
    figures = [file for file in sorted(run.glob("eval-*.json")) if not (file.stem.startswith("eval-best-") or BEFORE.search(file.stem))]
    files = [file for file in (run / "eval.json", *figures, run / "report.html") if file.is_file()]

    def after(number: int) -> list[Path]:
        return [file.with_stem(f"{file.stem}-before" if number == 1 else f"{file.stem}-before-{number}") for file in files]

    free = next(number for number in count(1) if not any(file.exists() for file in after(number)))
    return [file.rename(new) for file, new in zip(files, after(free), strict=True)]
