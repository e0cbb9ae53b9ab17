"""Generated against real images, in the space of given features: KID, FID, precision and recall, density and coverage. All in float64."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.metrics.base import Estimate, centred

NUM_NEIGHBOURS = 5
"""Of density and coverage, which look at more of them than precision and recall."""


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """The polynomial kernel (x.y / d + 1)^3."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def _mmd2(xx: Tensor, yy: Tensor, xy: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """Unbiased squared maximum mean discrepancy for rows counted `weights` times, [r n] and [r m]; pairs of one image are left out."""

    def within(kernel: Tensor, weight: Tensor) -> Tensor:
        pairs = weight.sum(1) ** 2 - (weight**2).sum(1)
        return ((weight @ kernel * weight).sum(1) - weight**2 @ kernel.diagonal()) / pairs

    x, y = weights
    return within(xx, x) + within(yy, y) - 2 * (x @ xy * y).sum(1) / (x.sum(1) * y.sum(1))


def _draws(num: int, num_draws: int, generator: torch.Generator) -> Tensor:
    """How often each of `num` rows is drawn in resamples with replacement, [num_draws num]."""
    drawn = torch.randint(num, (num_draws, num), generator=generator)
    return torch.zeros(num_draws, num, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(num_draws, num, dtype=torch.float64))


def kid(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], *, seed: int = 0, num_resamples: int = 200) -> Estimate:
    """Kernel Inception distance over all n and m rows; unbiased, so it may be below 0 for equal distributions.

    The interval is the 95 % range of the same statistic over resamples of both sets with replacement, shifted to be centred
    on the figure.

    Args:
        seed: of the resamples.
    Source: Binkowski et al. 2018, arXiv:1801.01401, eq. (4), cubic polynomial kernel.
    Deviates: one estimate over all rows in place of the mean over small subsets: the same expectation, less variance.
    Raises:
        ValueError: fewer than two rows.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"KID needs at least 2 real and 2 generated images; found {len(real)} and {len(fake)}.")
    generator = torch.Generator().manual_seed(seed)
    weights = [_with_whole(_draws(len(rows), num_resamples, generator)) for rows in (real, fake)]
    values = _mmd2(_kernel(real, real), _kernel(fake, fake), _kernel(real, fake), (weights[0], weights[1]))
    return centred(float(values[0]), values[1:])


def kid_difference(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], other: Float[Tensor, "l d"], *, seed: int = 0, num_resamples: int = 200) -> Estimate:
    """KID of `fake` less KID of `other`, whose rows are pairs (made from the same seeds, say); the resamples draw real rows once for both, and pairs.

    Raises:
        ValueError: fewer than two rows, or rows that are no pairs.
    """
    if len(fake) != len(other):
        raise ValueError(f"pairs of generated images are needed; found {len(fake)} and {len(other)}.")
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"KID needs at least 2 real and 2 generated images; found {len(real)} and {len(fake)}.")
    generator, xx = torch.Generator().manual_seed(seed), _kernel(real, real)
    x, y = (_with_whole(_draws(len(rows), num_resamples, generator)) for rows in (real, fake))
    one, two = (_mmd2(xx, _kernel(made, made), _kernel(real, made), (x, y)) for made in (fake, other))
    values = one - two
    return centred(float(values[0]), values[1:])


def _with_whole(draws: Tensor) -> Tensor:
    """All rows once, and then the resamples."""
    return torch.cat([torch.ones_like(draws[:1]), draws])


def fid(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"]) -> float:
    """Frechet distance between Gaussians fitted to the features; biased upwards at small n, so always state n.

        |mu_r - mu_f|^2 + tr(S_r) + tr(S_f) - 2 tr((S_r^1/2 S_f S_r^1/2)^1/2)

    Source: Heusel et al. 2017, arXiv:1706.08500, eq. (6).
    """
    cov_real, cov_fake = torch.cov(real.double().T), torch.cov(fake.double().T)
    values, vectors = torch.linalg.eigh(cov_real)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_fake @ root).clamp(min=0).sqrt().sum()
    shift = (real.double().mean(0) - fake.double().mean(0)).square().sum()
    return max(0.0, float(shift + cov_real.trace() + cov_fake.trace() - 2 * cross))


def density_coverage(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], *, k: int = NUM_NEIGHBOURS) -> tuple[float, float]:
    """In how many real neighbourhoods a generated image lies, over k (density, unbounded), and the share of real neighbourhoods that hold one (coverage).

    A neighbourhood reaches to the k-th nearest other real image, so an outlier among the generated ones makes no room, as it does for recall.
    Both sets are cut to their common length.

    Source: Naeem et al. 2020, arXiv:2002.09797, equations (4) and (5), k = 5.
    Raises:
        ValueError: fewer than k + 1 rows.
    """
    real, fake = _alike(real, fake, k, "density and coverage")
    within = torch.cdist(fake, real) <= _radius(real, k)
    return float(within.double().sum(1).mean() / k), float(within.any(0).double().mean())


def _alike(real: Tensor, fake: Tensor, k: int, what: str) -> tuple[Tensor, Tensor]:
    num = min(len(real), len(fake))
    if num <= k:
        raise ValueError(f"{what} with k = {k} need more than {k} images of each kind; found {num}.")
    return real[:num].double(), fake[:num].double()


def _radius(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other one."""
    return torch.cdist(points, points).kthvalue(k + 1, dim=1).values


def _covered(points: Tensor, support: Tensor, k: int) -> float:
    """Share of points within the distance of a support point to its k-th nearest other support point."""
    return float((torch.cdist(points, support) <= _radius(support, k)).any(1).double().mean())


def precision_recall(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], *, k: int = 3) -> tuple[float, float]:
    """Share of generated images on the real manifold (precision), and of real images on the generated one (recall).

    Both sets are cut to their common length, since the manifolds grow with the number of points.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991, eqs. (1) and (2), k = 3.
    Raises:
        ValueError: fewer than k + 1 rows.
    """
    real, fake = _alike(real, fake, k, "precision and recall")
    return _covered(fake, real, k), _covered(real, fake, k)
