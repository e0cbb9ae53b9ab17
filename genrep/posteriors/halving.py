"""Evaluations go to the candidates that may still win."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Estimate = Callable[[Float[Tensor, "b l k"]], Float[Tensor, "b l"]]
"""log p(x0 | candidate) of some candidates of each image, nats, up to a constant per image; other noise with every call."""


def successive_halving(estimate: Estimate, candidates: Float[Tensor, "b m k"], *, rounds: int) -> Float[Tensor, "b m"]:
    """Rounds of an estimate, each of the better half of the candidates that are left, two at least.

        l_j = mean over the rounds r that j took part in of (l_jr - mean over the candidates left at the end of l_ir)

    Who leaves keeps what is known of it: its distance, in the rounds it took part in, to those that took part in all. Ten candidates in four
    rounds cost half of the evaluations.

    Returns:
        log p(x0 | candidate) of all candidates, nats, up to a constant per image.
    Source: Karnin, Koren and Somekh 2013 (sequential halving); Clark and Jaini 2023, arXiv:2303.15233, prune classes in a similar way.
    """
    left = torch.arange(candidates.shape[1], device=candidates.device).expand(len(candidates), -1)
    found: list[Tensor] = []
    for i in range(rounds):
        if i:
            left = _better_half(torch.stack(found).mean(0), left)
        asked = estimate(candidates.gather(1, left[..., None].expand(-1, -1, candidates.shape[2])))
        found.append(asked.new_full(candidates.shape[:2], torch.nan).scatter(1, left, asked))
    each = torch.stack(found)
    of_the_last = each.gather(2, left.expand(rounds, -1, -1)).mean(2, keepdim=True)
    return (each - of_the_last).nanmean(0)


def _better_half(log_lik: Float[Tensor, "b m"], left: Int[Tensor, "b l"]) -> Int[Tensor, "b h"]:
    """Of the candidates that are left: they took part in all rounds so far, so that these means compare."""
    num = max(2, math.ceil(left.shape[1] / 2))
    return left.gather(1, log_lik.gather(1, left).topk(num, dim=1).indices)
