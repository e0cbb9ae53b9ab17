"""Set measured figures beside their targets, and write them as json: those of an evaluated run, or of a benchmark of its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from genrep.cli.arguments import again

if TYPE_CHECKING:
    from genrep.evaluation.figures import Figure
    from genrep.model import GenRep

TAKES_OVERRIDES = False
MISSED = 1
EVIDENCE = "evidence"
OWN = {
    "posterior": "every posterior estimator against the exact posterior, 8 x 8 digits; with RUN also on garments with that run's model, more than an hour",
    "data": "what batches cost beside torchvision's transforms, and what 5,000 mutated documents for each reader and 10,000 mutated pictures do to them",
    "align": "how exact the aligned gradient is, and what aligning costs of a joint step and beside TorchJD",
    "step": "what a joint step costs beside a step of perception and one of generation, with one pass of the trunk and with two",
    "memory": "what memory a joint step needs beside a step of generation alone",
    "perception": "what perceiving costs: the trunk beside timm's vision transformer of equal size, the heads beside the trunk",
    "robustness": "what RUN's model, or the one that comes with genrep, sees in noisy, blurred, faded, coarse, compressed garments; ten minutes",
    "semantics": "whether denoising heeds the semantics it is given: right ones, wrong ones, none; of RUN's model or the one that comes with genrep",
    "scaling": "several processes beside one: whether they make the same weights, what they send each other, and what that costs",
    "specialists": "what RUN's model sees beside networks for one task each (timm's, torchvision's, diffusers'), trained on its images, as long; hours",
    "serve": "what 10,000 damaged requests do to the web page of RUN's model, or of the one that comes with genrep, and what the page costs beside the model",
    "sampling": "what sampling costs beside the network, and 20 steps against 250, of RUN's model or the one that comes with genrep",
}
"""Benchmarks of their own, with no recipe whose run they read unless one is named."""
SUITE_HELP = "of `evidence`: which suite of arms and seeds; what is missing of it is trained in the folder RUN (hours), or with --quick left out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` accepts."""
    own = "; ".join(f"`{name}`: {what}" for name, what in OWN.items())
    parser.add_argument(
        "name", metavar="NAME", help=f"which figures, written as NAME.json: `demo` or `showcase`: those of the recipe's run; `{EVIDENCE}`: a suite's; {own}"
    )
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="folder of an evaluated run (default: runs/NAME, of a suite runs/SUITE, or none)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder for NAME.json (default: the run; runs/bench where none is named, or a model alone)")
    parser.add_argument("--suite", default="few-labels", metavar="SUITE", help=SUITE_HELP)
    parser.add_argument("--arms", metavar="ARM,...", help="of a suite: only these are trained (default: all)")
    parser.add_argument("--seeds", metavar="N,...", help="of a suite: only these are trained (default: all that it asks for)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of a suite on a folder of your own, such as `photos`: that folder")
    parser.add_argument("--keep", type=Path, metavar="PAGE", help="of a suite: its finished runs' figures go into PAGE/runs, and all suites' onto PAGE.md")
    parser.add_argument("--at-once", type=int, metavar="N", help="runs of a suite at a time, a thread each (default: one for each GPU, without any one)")
    parser.add_argument("--most", type=int, default=128, metavar="N", help="of `posterior` with RUN: evaluations per class at the most (default: 128)")
    parser.add_argument("--quick", action="store_true", help="within a minute; what that cannot judge says so")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed")


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 with `--check` and a missed target."""
    from genrep.cli.figures import TARGETS, print_grid, print_targets
    from genrep.evaluation.figures import missed, write_figures
    from genrep.registry import lookup

    lookup({**TARGETS, **OWN, EVIDENCE: None}, args.name, "bench")
    run = args.run or Path("runs") / (args.suite if args.name == EVIDENCE else args.name)
    if args.name == EVIDENCE:
        figures = _of_suite(args.suite, run, args)
    elif args.name in OWN:
        figures = MEASURES[args.name](args)
    else:
        figures = _of_run(args.name, run)
    is_run = args.name not in OWN or (args.run and (args.run / "model").is_dir())
    folder = args.out or (run if is_run else Path("runs") / "bench")
    folder.mkdir(parents=True, exist_ok=True)
    written = write_figures(folder, args.name, figures)
    if judged := [figure for figure in figures if figure.target is not None or args.name in TARGETS]:
        print_targets(judged)
    if by_row := [figure for figure in figures if args.name not in TARGETS and ": " in figure.name]:
        print_grid(by_row)
    print(f"wrote {written}")
    names = missed(figures)
    if names:
        print(f"missed: {'; '.join(names)}")
    return MISSED if args.check and names else 0


def _of_run(name: str, run: Path) -> Sequence[Figure]:
    """Figures of a run that was evaluated before; they take no time, so that there is nothing to be quick about."""
    from genrep.cli.figures import figures_of
    from genrep.storage import read_json

    results = run / "eval.json"
    if not results.is_file():
        raise FileNotFoundError(f"{run} has no eval.json: expected a finished run; `genrep eval {run}` measures it.")
    return figures_of(name, read_json(results))


def _of_suite(name: str, folder: Path, args: argparse.Namespace) -> Sequence[Figure]:
    """Figures of a suite whose missing runs, of the arms and seeds that are named or of all, are trained first, unless that is to be quick."""
    from genrep.cli.suites import check_runs, train_suite
    from genrep.evaluation.outcome import suite_figures
    from genrep.evaluation.results import keep_runs, write_page
    from genrep.evaluation.suites import SUITES
    from genrep.registry import lookup

    suite, data = lookup(SUITES, name, "suite"), args.data
    arms, seeds = _some(args.arms, [*suite.arms], "arm"), _some(args.seeds, [str(i) for i in range(suite.num_seeds)], "seed")
    if args.at_once is not None and args.at_once < 1:
        raise ValueError(f"`--at-once` must be at least 1; found {args.at_once}. `--quick` trains nothing.")
    if data and not suite.data:
        raise ValueError(f"--data is of suites on a folder of your own, such as `photos`; `{name}` has its own data. Leave it out.")
    check_runs(suite, folder, data)
    if not args.quick:
        train_suite(suite, folder, at_once=args.at_once, arms=arms, seeds=tuple(map(int, seeds)), data=data)
    figures = suite_figures(name, suite, folder)
    if args.keep:
        keep_runs(name, suite, folder, args.keep)
        print(f"wrote {write_page(args.keep)}")
    return figures


def _some(named: str | None, known: Sequence[str], kind: str) -> tuple[str, ...]:
    """Those that are named, or none."""
    from genrep.registry import lookup

    return tuple(lookup(dict(zip(known, known, strict=True)), name, kind) for name in named.split(",")) if named else ()


def _say(line: str) -> None:
    print(line, flush=True)


def _of_alignment(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.datasets import load_dataset
    from genrep.evaluation.align_bench import cost_figures, exactness_figures
    from genrep.evaluation.timing import ENOUGH_ROUNDS
    from genrep.recipes import showcase

    exact = exactness_figures(quick=args.quick, progress=_say)
    return [*exact, *cost_figures(showcase(), load_dataset("fashion", "train", num=64), num_rounds=1 if args.quick else ENOUGH_ROUNDS, progress=_say)]


def _of_step(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.datasets import load_dataset
    from genrep.evaluation.step_bench import time_figures
    from genrep.evaluation.timing import ENOUGH_ROUNDS
    from genrep.recipes import showcase

    return time_figures(showcase(), load_dataset("fashion", "train", num=64), num_rounds=1 if args.quick else ENOUGH_ROUNDS, progress=_say)


def _of_memory(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.datasets import load_dataset
    from genrep.evaluation.step_bench import OF_TWO_STEPS, memory_figures
    from genrep.recipes import showcase

    batches = list(OF_TWO_STEPS)[:1] if args.quick else list(OF_TWO_STEPS)
    return memory_figures(showcase(), load_dataset("fashion", "train", num=64), batches=batches, progress=_say)


def _of_data(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.datasets import load_dataset
    from genrep.evaluation.data_bench import data_figures

    single, scenes = (load_dataset(name, "train", num=2_000) for name in ("fashion", "fashion-scenes"))
    return data_figures(single, scenes, quick=args.quick, progress=_say)


def _of_perception(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.datasets import load_dataset
    from genrep.evaluation.perception_bench import latency_figures
    from genrep.evaluation.timing import ENOUGH_ROUNDS
    from genrep.recipes import showcase
    from genrep.tasks import TASKS

    config = showcase()
    config = replace(config, model=replace(config.model, tasks=tuple(TASKS)))
    return latency_figures(config, load_dataset("fashion", "test", num=8), num_rounds=2 if args.quick else 3 * ENOUGH_ROUNDS, progress=_say)


def _of_garments(args: argparse.Namespace) -> GenRep:
    """The model that is asked, where it knows the images that it is to be asked about.

    Raises:
        ValueError: it knows other classes, or images of another size.
    """
    from genrep.cli.runs import load_model
    from genrep.datasets.fashion_scenes import CANVAS_PX
    from genrep.datasets.garments import FASHION_CLASSES

    model = load_model(args.run)
    known = (model.class_names, model.config.image_size)
    if known != (FASHION_CLASSES, (CANVAS_PX, CANVAS_PX)):
        raise ValueError(
            f"`genrep bench {args.name}` asks about garments of {CANVAS_PX} x {CANVAS_PX} px ({', '.join(FASHION_CLASSES)}); the model knows "
            f"{', '.join(known[0])} at {' x '.join(map(str, known[1]))} px. `genrep eval` measures it on its own data."
        )
    return model


def _of_robustness(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.datasets import load_dataset
    from genrep.evaluation.robustness import robustness_figures

    sets = [load_dataset(name, "test", num=num) for name, num in (("fashion", 2_000), ("fashion-scenes", 500))]
    return robustness_figures(_of_garments(args), sets, quick=args.quick, progress=_say)


def _of_semantics(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.datasets import load_dataset
    from genrep.evaluation.semantics_bench import NUM_IMAGES, semantics_figures

    return semantics_figures(_of_garments(args), load_dataset("fashion", "val", num=40 if args.quick else NUM_IMAGES))


def _of_scaling(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.evaluation.scaling_bench import cost_figures, exact, exactness_figures
    from genrep.evaluation.timing import ENOUGH_ROUNDS
    from genrep.recipes import showcase, tiny

    same = exactness_figures(exact(tiny()), progress=_say)
    return [*same, *cost_figures(showcase(), num_rounds=1 if args.quick else 3 * ENOUGH_ROUNDS, progress=_say)]


def _of_sampling(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.config import EvalConfig
    from genrep.datasets import cache_folder, load_dataset
    from genrep.evaluation.generation import Studio
    from genrep.evaluation.judge import load_judge
    from genrep.evaluation.sampling_bench import batch_figure, quality_figures, time_figures
    from genrep.evaluation.timing import ENOUGH_ROUNDS
    from genrep.training import computes_in_bf16

    model = _of_garments(args)
    studio = Studio(model, load_judge(load_dataset("fashion", "train"), cache=cache_folder()), EvalConfig(), bf16=computes_in_bf16(model.device))
    times = time_figures(model, num_rounds=2 if args.quick else ENOUGH_ROUNDS, progress=_say)
    quality = quality_figures(studio, load_dataset("fashion", "val"), load_dataset("fashion", "test"), quick=args.quick, progress=_say)
    return [*times, batch_figure(model), *quality]


def _of_serving(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.cli.runs import load_model
    from genrep.evaluation.serving_bench import serving_figures

    command = [*again(), "serve", "--port", "0", *(["--model", str(args.run)] if args.run else [])]
    return serving_figures(load_model(args.run), command, quick=args.quick, progress=_say)


def _of_specialists(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.evaluation.specialists_bench import specialist_figures

    if args.run is None:
        raise ValueError("`genrep bench specialists` needs the folder of a finished run: `genrep bench specialists RUN`.")
    return specialist_figures(args.run, quick=args.quick, progress=_say)


def _of_posteriors(args: argparse.Namespace) -> Sequence[Figure]:
    from genrep.cli.runs import load_model
    from genrep.datasets import FASHION_CLASSES, cache_folder, load_dataset
    from genrep.evaluation.judge import load_judge
    from genrep.evaluation.posterior_bench import posterior_figures
    from genrep.evaluation.posterior_cost import cost_figures
    from genrep.evaluation.posterior_objects import object_figures
    from genrep.evaluation.posterior_uses import prior_figures, stranger_figures, strangers
    from genrep.evaluation.timing import ENOUGH_ROUNDS
    from genrep.evaluation.trained_posterior import NUM_IMAGES, require_posterior, trained_figures
    from genrep.recipes import showcase

    model = load_model(args.run) if args.run else None
    if model:
        require_posterior(model, "fashion", FASHION_CLASSES)
    figures = posterior_figures(quick=args.quick, progress=_say)
    if model:
        judge = load_judge(load_dataset("fashion", "train"), cache=cache_folder())
        figures += trained_figures(model, load_dataset("fashion", "test", num=NUM_IMAGES), judge, quick=args.quick, most=args.most, progress=_say)
        largest, num = (10, 10) if args.quick else (200, 300)
        test = load_dataset("fashion", "test")
        figures += cost_figures(showcase(), test, num_rounds=2 if args.quick else ENOUGH_ROUNDS, progress=_say)
        figures += prior_figures(model, test, most=largest, progress=_say)
        if "detection" in model.heads:
            num_scenes = 6 if args.quick else 300
            figures += object_figures(model, load_dataset("fashion-scenes", "test", num=num_scenes), num=num_scenes, progress=_say)
        figures += stranger_figures(model, test, strangers(num, model.image_size), num=num, progress=_say)
    return figures


MEASURES: dict[str, Callable[[argparse.Namespace], Sequence[Figure]]] = {
    "posterior": _of_posteriors,
    "data": _of_data,
    "align": _of_alignment,
    "step": _of_step,
    "memory": _of_memory,
    "perception": _of_perception,
    "robustness": _of_robustness,
    "semantics": _of_semantics,
    "scaling": _of_scaling,
    "specialists": _of_specialists,
    "serve": _of_serving,
    "sampling": _of_sampling,
}
"""What measures the figures of `OWN`."""
