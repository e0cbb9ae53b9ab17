"""How frequent the classes are where a model is used, from images alone: the posterior's prior need not be that of training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.layers import precise

MAX_STEPS, TOLERANCE = 1000, 1e-8
"""It ends after so many steps, or where no frequency changes by more."""


def estimate_prior(
    log_posterior: Float[Tensor, "n k"],
    log_prior: Float[Tensor, " k"] | None = None,
    *,
    concentration: float = 1.0,
) -> Float[Tensor, " k"]:
    """log of the class frequencies under which unlabelled images are likeliest, by expectation maximisation.

        E: p_i(y) proportional to p(y | x_i) * q(y) / prior(y)        M: q(y) = mean over i of p_i(y)

    Args:
        log_posterior: log p(y | x) of independent images, calibrated under `log_prior`; the better calibrated, the better the answer.
        log_prior: the prior behind it, nats, up to a constant; default: uniform.
        concentration: of a symmetric Dirichlet distribution on the frequencies; 1: none. Above 1 no class gets the frequency 0.
    Raises:
        ValueError: no images, or a concentration below 1.
    Source: Saerens, Latinne, Decaestecker 2002, doi:10.1162/089976602753284446.
    """
    num, num_classes = log_posterior.shape
    if num < 1 or concentration < 1:
        raise ValueError(f"a prior needs at least 1 image and a `concentration` of at least 1; found {num} images and {concentration}.")
    likelihood = precise(log_posterior) - precise(log_posterior.new_zeros(num_classes) if log_prior is None else log_prior).log_softmax(0)
    frequency = torch.full((num_classes,), 1 / num_classes, dtype=likelihood.dtype, device=log_posterior.device)
    for _ in range(MAX_STEPS):
        counts = (likelihood + frequency.log()).softmax(1).sum(0) + (concentration - 1)
        before, frequency = frequency, counts / counts.sum()
        if bool((frequency - before).abs().max() < TOLERANCE):
            break
    return frequency.log().to(log_posterior.dtype)
