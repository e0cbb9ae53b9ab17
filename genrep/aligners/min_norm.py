"""Aligners that look for one update on behalf of all losses in the convex hull of the gradients, or near their mean: MGDA and CAGrad.

All rows of C are the update's coefficients, so weights that sum to one change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy.optimize import minimize, nnls
from torch import Tensor

from genrep.aligners.base import Aligner, rooted

Matrix = npt.NDArray[np.float64]


def one_for_all(coefficients: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
    """C whose rows are one update."""
    return coefficients.expand(len(coefficients), -1).clone()


@dataclass(frozen=True, kw_only=True)
class MGDA(Aligner):
    """The shortest vector in the convex hull of the gradients: if it is not zero it lowers every loss at the same rate, or faster.

        update = sum_j a_j g_j,   a = argmin |sum_j a_j g_j|,  a >= 0,  sum_j a_j = 1

    Source: Desideri 2012, doi:10.1016/j.crma.2012.03.014; Sener and Koltun 2018, arXiv:1810.04650.

    >>> gram = torch.tensor([[1.0, -1.0], [-1.0, 4.0]]).double()
    >>> [round(share, 3) for share in MGDA()(gram, torch.ones(2).double(), {})[0][0].tolist()]
    [0.714, 0.286]
    """

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        if len(gram) == 2:  # in closed form
            between = gram[0, 0] + gram[1, 1] - 2 * gram[0, 1]
            first = ((gram[1, 1] - gram[0, 1]) / between).clamp(0, 1) if between > 0 else gram.new_tensor(0.5)
            return one_for_all(torch.stack([first, 1 - first]))
        root = rooted(gram)
        root = root / root.norm().clamp(min=1e-30)
        # a penalty for a sum other than one shortens the answer, but does not turn it
        found = nnls(torch.cat([root, root.new_ones(1, len(gram))]).numpy(), np.eye(len(gram) + 1)[-1])[0]
        return one_for_all(torch.from_numpy(found / found.sum()).to(gram))


@dataclass(frozen=True, kw_only=True)
class CAGrad(Aligner):
    """Near the mean gradient, the update that lowers the worst-off loss fastest.

        update = g_0 + c |g_0| g_a / |g_a|,   a = argmin <g_a, g_0> + c |g_0| |g_a|  over convex combinations g_a;   g_0 = mean of g_j

    Args:
        radius: c, how far from the mean, in [0, 1); 0 is the mean itself.
    Source: Liu et al. 2021, arXiv:2110.14048, algorithm 1.
    """

    radius: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.radius < 1:
            raise ValueError(f"`radius` must lie in [0, 1); found {self.radius}. 0 is the mean of the gradients.")

    def coefficients(self, gram: Float[Tensor, "l l"], losses: Float[Tensor, " l"]) -> Float[Tensor, "l l"]:
        scale = gram.diagonal().max()
        if scale == 0:
            return one_for_all(torch.full_like(losses.to(gram), 1 / len(gram)))
        unit = (gram / scale).cpu().numpy()
        mean = np.full(len(unit), 1 / len(unit))
        length = self.radius * max(float(mean @ unit @ mean), 0.0) ** 0.5
        found = _on_line(unit, length) if len(unit) == 2 else _on_simplex(unit, length)
        norm = max(float(found @ unit @ found), 0.0) ** 0.5
        return one_for_all(torch.from_numpy(mean + (length / norm if norm > TINY else 0.0) * found).to(gram))


TINY = 1e-12


def _dual(unit: Matrix, length: float, shares: Matrix) -> float:
    """What CAGrad minimises over convex combinations: <g_a, g_0> + length |g_a|."""
    return float(shares @ unit.mean(1) + length * max(float(shares @ unit @ shares), 0.0) ** 0.5)


def _on_line(unit: Matrix, length: float) -> Matrix:
    """Of two gradients: at an end, or where the derivative of the share x of the first is zero, a quadratic equation."""
    slope = unit[0].mean() - unit[1].mean()
    of_x2, of_x, rest = unit[0, 0] + unit[1, 1] - 2 * unit[0, 1], 2 * (unit[0, 1] - unit[1, 1]), unit[1, 1]
    steep = 4 * (of_x2 * length**2 - slope**2)
    shares = [0.0, 1.0]
    if steep > TINY and of_x2 > TINY:
        root = float(of_x**2 - 4 * of_x2 * ((of_x * length) ** 2 - 4 * slope**2 * rest) / steep)
        shares += [float(np.clip((-of_x + sign * max(root, 0.0) ** 0.5) / (2 * of_x2), 0, 1)) for sign in (-1, 1)]
    return min((np.array([x, 1 - x]) for x in shares), key=lambda share: _dual(unit, length, share))


def _on_simplex(unit: Matrix, length: float) -> Matrix:
    num, options = len(unit), {"ftol": 1e-14, "maxiter": 500}
    ends: dict[str, Any] = {"bounds": [(0, 1)] * num, "constraints": {"type": "eq", "fun": lambda shares: shares.sum() - 1}}
    found = minimize(lambda shares: _dual(unit, length, shares), np.full(num, 1 / num), **ends, options=options)
    return np.asarray(found.x, dtype=np.float64)
