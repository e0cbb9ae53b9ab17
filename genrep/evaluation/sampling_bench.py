"""What sampling costs beside the network, and how few steps are enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from genrep.datasets import ArrayDataset
from genrep.evaluation.diffusers_peer import loop_of_diffusers
from genrep.evaluation.figures import Figure, at_most, plain
from genrep.evaluation.generation import Studio
from genrep.evaluation.timing import ENOUGH_ROUNDS, Progress, cpu_seconds, of_rounds, silent
from genrep.metrics.base import Estimate, wilson
from genrep.metrics.generation import kid, kid_difference, precision_recall
from genrep.model import GenRep
from genrep.randomness import SampleGenerator
from genrep.samplers import Ancestral, DPMSolver, Euler, Heun, Sampler, UniPC
from genrep.types import Denoised

FEW, MANY = 20, 250
"""Evaluations of the network per image."""
NUM_CHOOSING, NUM_PAIRS = 500, 2_000
QUICK_PAIRS, QUICK_MANY = 40, 40
OF_NETWORK, OF_PEER, OUTSIDE_US, LEVELS = 1.01, 0.80, 50.0, 2 / 255
_VAL_SEED, _TEST_SEED = 1, 0


def line_up() -> dict[str, Sampler]:
    """Samplers with about `FEW` evaluations, on every grid that suits them."""
    deterministic: dict[str, Callable[[str], Sampler]] = {
        "euler": lambda grid: Euler(num_steps=FEW, grid=grid),
        "heun": lambda grid: Heun(num_steps=FEW // 2, grid=grid),
        "dpm_solver": lambda grid: DPMSolver(num_steps=FEW, grid=grid),
        "unipc": lambda grid: UniPC(num_steps=FEW, grid=grid),
    }
    grids = ("uniform", "logsnr", "karras")
    return {f"{name}, {grid}": make(grid) for name, make in deterministic.items() for grid in grids} | {"ancestral, uniform": Ancestral(num_steps=FEW)}


def quality_figures(studio: Studio, val: ArrayDataset, test: ArrayDataset, *, quick: bool = False, progress: Progress = silent) -> list[Figure]:
    """The best of `line_up`, chosen on val, against `MANY` ancestral steps from the same noise: KID on test.

    Args:
        studio: the model, unguided, and who judges.
    """
    num, pairs, many = (QUICK_PAIRS, QUICK_PAIRS, QUICK_MANY) if quick else (NUM_CHOOSING, NUM_PAIRS, MANY)
    real, figures, choices = studio.features(val, num if quick else len(val))[0], [], dict[str, Estimate]()
    for name, sampler in line_up().items():
        progress(f"sampling: {name}")
        choices[name] = kid(real, _with(studio, sampler).samples(num, 1.0, seed=_VAL_SEED).features)
        how = f"unguided, {num} images against {len(real)} of val, features of {studio.judge.name}"
        figures.append(plain(f"{name}: KID, val", choices[name], "KID", how))
    best = min(choices, key=lambda name: choices[name].value)
    progress(f"sampling: {best} against {many} ancestral steps")
    few, slow = (_with(studio, sampler).samples(pairs, 1.0, seed=_TEST_SEED) for sampler in (line_up()[best], Ancestral(num_steps=many)))
    real, floor = studio.features(test, len(test))[0], kid(studio.features(test, pairs)[0], studio.features(val, pairs)[0])
    apart = kid_difference(real, few.features, slow.features)
    how = f"unguided, {pairs} images of each from the same noise, against {len(real)} of test, features of {studio.judge.name}; {best} was chosen on val"
    bound = f"the end of the floor's interval: KID of {pairs} images each of val and test, {floor.value:.4f} [{floor.low:.4f}, {floor.high:.4f}]"
    figures.append(
        Figure(
            name=f"KID of {FEW} steps less KID of {many} ancestral steps",
            value=apart.value,
            interval=(apart.low, apart.high),
            unit="KID",
            target=floor.high,
            at_most=True,
            met=None if quick else apart.value <= floor.high,
            how=f"{how}; at most {bound}" + ("; too few to judge a target by" if quick else ""),
        )
    )
    for name, made in ((f"{best}, {FEW} evaluations", few), (f"ancestral, {many} evaluations", slow)):
        figures.append(plain(f"{name}: KID", kid(real, made.features), "KID", how))
        figures.append(plain(f"{name}: recognised", wilson(made.num_right, pairs), "share", how))
        recall = precision_recall(real, made.features)[1]
        figures.append(plain(f"{name}: recall", recall, "share", how))
    return figures


def _with(studio: Studio, sampler: Sampler) -> Studio:
    return replace(studio, config=replace(studio.config, sampler=sampler))


def time_figures(model: GenRep, *, num_rounds: int = ENOUGH_ROUNDS, progress: Progress = silent) -> list[Figure]:
    """Sampling against the bare network, against diffusers with its own transformer, and outside any network; float32, one image or four."""
    progress("time of sampling")
    sampler, figures = DPMSolver(num_steps=FEW), []
    with torch.no_grad():
        for batch in (4, 1):
            work = {"whole": _generating(model, sampler, batch), "network": _bare(model, batch)}
            spent = cpu_seconds(work, num_rounds)
            how = f"`generate` with {FEW} steps of {type(sampler).__name__}, the table of modulations included, over as many calls of the denoiser alone"
            figures.append(of_rounds(f"whole / network, batch {batch}", spent["whole"] / spent["network"], OF_NETWORK, num_rounds, how))
        spent = cpu_seconds({"ours": _generating(model, sampler, 1), "theirs": loop_of_diffusers(model, num_steps=FEW)}, num_rounds)
        config = model.config.trunk
        peer = f"DiTTransformer2DModel of {config.depth} blocks, width {config.width}, tokens of {model.denoiser.trunk.stride} px"
        how = f"{FEW} steps at batch 1, against diffusers' DPMSolverMultistepScheduler with {peer}"
        figures.append(of_rounds("whole / diffusers, batch 1", spent["ours"] / spent["theirs"], OF_PEER, num_rounds, how))
        for name, kind in (("euler", Euler), ("heun", Heun), ("dpm_solver", DPMSolver), ("unipc", UniPC)):
            seconds = cpu_seconds({name: _idle(model, kind(num_steps=200))}, num_rounds)[name]
            how = "200 steps at batch 4 with a denoiser that does nothing"
            figures.append(of_rounds(f"{name}: outside the network, per step", seconds / 200 * 1e6, OUTSIDE_US, num_rounds, how, unit="us"))
    return figures


def _generating(model: GenRep, sampler: Sampler, batch: int) -> Callable[[], object]:
    return lambda: model.generate(torch.arange(batch) % len(model.class_names), sampler=sampler)


def _bare(model: GenRep, batch: int) -> Callable[[], object]:
    xt, t = torch.zeros(batch, model.codec.channels, *model.x0_size), torch.full((batch,), 0.5)
    y = model.condition(torch.arange(batch) % len(model.class_names))

    def run() -> None:
        for _ in range(FEW):
            model.denoise(xt, t, y)

    return run


def _idle(model: GenRep, sampler: Sampler) -> Callable[[], object]:
    xt, generator = torch.zeros(4, model.codec.channels, *model.x0_size), SampleGenerator(0, torch.arange(4))
    found = Denoised(torch.zeros_like(xt), torch.zeros(4))
    return lambda: sampler(lambda xt, t, y: found, xt, torch.zeros(4, 1), schedule=model.schedule, generator=generator)


def batch_figure(model: GenRep, *, num: int = 60) -> Figure:
    """How far images of one batch are from the same ones in small batches."""
    classes, sampler = torch.arange(num) % len(model.class_names), Ancestral(num_steps=FEW)
    whole, parts = (model.generate(classes, sampler=sampler, batch_size=size, guidance=1.75) for size in (num, 7))
    apart = float((whole - parts).abs().max()) / 2
    how = f"{num} images, {FEW} ancestral steps, guidance 1.75, in one batch and in batches of 7; largest difference of a pixel of range 1"
    return at_most("one batch / batches of 7", apart, LEVELS, "of a pixel's range", how)
