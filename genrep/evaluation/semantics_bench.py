"""Does perception drive generation? The error of denoising under an image's own semantics, and under those it should not have."""

from __future__ import annotations

import torch
from torch import Tensor

from genrep.datasets import ArrayDataset
from genrep.evaluation.figures import Figure, plain
from genrep.metrics.base import bootstrap_mean
from genrep.model import GenRep
from genrep.parametrization import u_error
from genrep.randomness import SampleGenerator

TIMES = (0.3, 0.5, 0.7, 0.9)
NUM_IMAGES = 400


@torch.no_grad()
def semantics_figures(model: GenRep, data: ArrayDataset, *, times: tuple[float, ...] = TIMES) -> list[Figure]:
    """Mean squared error of u per dimension under no semantics, and what the noised pass's own, the clean image's, another image's and, where a model knows
    how semantics are distributed, drawn ones of the image's classes add to it, paired by image; and how much semantics vary.

    Args:
        data: images with a class, or several, on which denoising is conditioned.
        times: noise times in (0, 1).
    """
    batch = data.batch(torch.arange(len(data)))
    x0, denoiser = model.encode(batch.image), model.denoiser
    tap = denoiser.clean_features(x0).taps[-1].movedim(1, -1).flatten(0, 2)
    clean = denoiser.semantics(x0)
    told = {"none": torch.zeros_like(clean), "clean": clean, "another's": clean.roll(1, 0)}
    drawn = denoiser.modulator.draw(batch.classes, SampleGenerator(0, batch.index, "drawn"))
    if drawn is not None and drawn.any():
        told["drawn"] = drawn
    num = f"{len(data)} images of {data.name}"
    figures = [
        plain("last tap at t = 0: varies", _varying(tap), "share", f"of its energy, over places and {num}"),
        plain("semantics: varies", _varying(clean), "share", f"of the energy of clean images' semantics, over {num}"),
    ]
    for time in times:
        t = torch.full((len(x0),), time)
        xt = model.schedule.noised(x0, t, SampleGenerator(0, batch.index, "semantics").normal(*x0.shape[1:]))
        passes = {name: denoiser.noised_pass(xt, t, denoiser.condition(batch.classes, sem)) for name, sem in told.items()}
        denoised = {name: denoiser.modulate(passes[name], xt, t, sem).x0_hat for name, sem in told.items()}
        denoised["own"] = denoiser.modulate(passes["none"], xt, t, denoiser.modulator.semantics(passes["none"].pooled)).x0_hat
        errors = {name: u_error((x0_hat - x0).square(), t, model.schedule).mean((1, 2, 3)) for name, x0_hat in denoised.items()}
        none, how = errors.pop("none"), f"one noise each, class given, {num}"
        figures.append(plain(f"t = {time:g}: none", bootstrap_mean(none), "squared error of u", how))
        figures += [plain(f"t = {time:g}: {name} - none", bootstrap_mean(error - none), "squared error of u", how) for name, error in errors.items()]
    return figures


def _varying(rows: Tensor) -> float:
    """Share of the mean squared length of rows that is not their mean's."""
    return 1 - float(rows.mean(0).square().sum() / rows.square().sum(1).mean())
