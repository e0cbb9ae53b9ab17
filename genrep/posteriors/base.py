"""What a posterior estimator is: log p(x0 | y) of some candidate conditions, from the function `denoise` alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from genrep.parametrization import eps_error
from genrep.randomness import SampleGenerator
from genrep.schedules import Schedule
from genrep.types import Denoise, DenoiseCandidates


def one_by_one(denoise: Denoise) -> DenoiseCandidates:
    """Every candidate through `denoise`, nothing shared: the plain way, and the one for closed forms."""

    def denoise_candidates(xt: Tensor, t: Tensor, candidates: Tensor) -> Tensor:
        num = candidates.shape[1]
        x0_hat = denoise(xt.repeat_interleave(num, 0), t.repeat_interleave(num, 0), candidates.flatten(0, 1)).x0_hat
        return x0_hat.reshape(len(xt), num, *xt.shape[1:])

    return denoise_candidates


@dataclass(frozen=True, kw_only=True)
class PosteriorEstimator(ABC):
    """Estimates log p(x0 | y) for each candidate y, in nats, up to a constant per image.

    Only differences between candidates of one image mean anything. Turning them into a posterior (temperature, bias, prior)
    is `posteriors.calibration`'s business.

    Args:
        budget: denoiser evaluations per candidate and image, >= 1; an antithetic pair counts two.
    """

    budget: int = 4

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ValueError(f"`budget` must be at least 1 evaluation per candidate; found {self.budget}.")

    @abstractmethod
    def __call__(
        self,
        denoise: DenoiseCandidates,
        x0: Float[Tensor, "b c h w"],
        candidates: Float[Tensor, "b m k"],
        *,
        schedule: Schedule,
        generator: SampleGenerator,
    ) -> Float[Tensor, "b m"]:
        """log p(x0 | candidate) in nats, SUMMED over the dimensions of x0, up to a constant per image.

        Args:
            generator: one stream per image, of length b.
        Raises:
            ValueError: fewer than two candidates.
        """


def require_candidates(candidates: Tensor) -> None:
    """A posterior needs alternatives.

    Raises:
        ValueError: fewer than two candidates.
    """
    if candidates.shape[1] < 2:
        raise ValueError(f"`candidates` needs at least 2 conditions per image to form a posterior; found {candidates.shape[1]}.")


def require_range(logsnr_min: float, logsnr_max: float) -> None:
    """A range of noise levels has a noisy and a clean end.

    Raises:
        ValueError: they are the same or swapped.
    """
    if not logsnr_min < logsnr_max:
        raise ValueError(f"`logsnr_min` must be below `logsnr_max`; found {logsnr_min} and {logsnr_max}.")


def require_noise(noise: str) -> None:
    """The candidates of an image see the same noise, or each its own.

    Raises:
        ValueError: neither is named.
    """
    if noise not in ("shared", "independent"):
        raise ValueError(f"`noise` must be `shared` or `independent`; found `{noise}`.")


def eps_error_maps(
    denoise: DenoiseCandidates,
    x0: Float[Tensor, "b c h w"],
    candidates: Float[Tensor, "b m k"],
    *,
    logsnr: Float[Tensor, "b n"],
    eps: Float[Tensor, "b n c h w"],
    schedule: Schedule,
) -> Float[Tensor, "b m h w"]:
    """|eps - eps_hat|^2 of each candidate, summed over channels; n noised images serve m / n candidates each.

    Args:
        logsnr: of each noised image, nats.
    """
    num = logsnr.shape[1]
    t = schedule.t_of_logsnr(logsnr.flatten())
    clean = x0.repeat_interleave(num, 0)
    groups = candidates.reshape(len(clean), -1, candidates.shape[2])
    x0_hat = denoise(schedule.noised(clean, t, eps.flatten(0, 1)), t, groups)
    error = (clean[:, None] - x0_hat).square().sum(2)
    return eps_error(error, t, schedule).reshape(len(x0), candidates.shape[1], *x0.shape[2:])
