"""Samplers of higher order with one evaluation per step, which use the estimate of the step before: DPM-Solver++(2M) and UniPC.

Between two times the probability-flow ODE is an integral over lambda = ln(alpha / sigma) of the clean estimate alone:

    xs = sigma_s / sigma_t xt + sigma_s Integral e^lambda x0_hat(lambda) d lambda

Here x0_hat is a straight line in lambda through two estimates, or a parabola through three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from genrep.randomness import SampleGenerator
from genrep.samplers.base import Sampler
from genrep.schedules import Schedule
from genrep.types import Denoise


@dataclass(frozen=True)
class _Estimate:
    """What the denoiser said at a time: half its log-SNR, [1] in float64, and x0_hat."""

    half_logsnr: Tensor
    x0_hat: Tensor


@dataclass(frozen=True, kw_only=True)
class DPMSolver(Sampler):
    """Deterministic second-order multistep sampler, DPM-Solver++(2M).

        xs = sigma_s / sigma_t xt + (alpha_s - alpha_t sigma_s / sigma_t) (x0_hat + (x0_hat - x0_before) h / (2 h_before))

    with h the step in ln(alpha / sigma) and h_before the one before. The first step and the one to s = 0, whose h is infinite,
    are Euler's; the latter returns x0_hat.

    Args:
        num_steps: denoiser calls per image, >= 1; the global error falls like 1 / num_steps^2.
    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """

    order: ClassVar[int | None] = 2
    corrects: ClassVar[bool] = False

    def __call__(self, denoise: Denoise, xt: Tensor, y: Tensor, *, schedule: Schedule, generator: SampleGenerator, start: float = 1.0) -> Tensor:
        predict: _Step | None = None
        before: _Estimate | None = None
        for now, then in self.spans(schedule, start, xt.device):
            here = _Estimate(schedule.logsnr(now) / 2, denoise(xt, now.to(xt.dtype).expand(len(xt)), y).x0_hat)
            if self.corrects and predict is not None:
                xt = predict.corrected(here)
            predict = _Step(schedule, xt, here, before, now, then)
            xt, before = predict.predicted(), here
        return xt


@dataclass(frozen=True, kw_only=True)
class UniPC(DPMSolver):
    """Deterministic third-order multistep sampler: DPM-Solver++(2M), each of whose steps is taken again with the next step's estimate, at no further
    evaluation.

    Args:
        num_steps: denoiser calls per image, >= 1; the global error falls like 1 / num_steps^3.
    Source: Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2 with p = 2 and B(h) = e^h - 1.
    """

    order: ClassVar[int | None] = 3
    corrects: ClassVar[bool] = True


@dataclass(frozen=True)
class _Step:
    """From xt to xs on the line through the estimates at t and before it."""

    schedule: Schedule
    xt: Tensor
    here: _Estimate
    before: _Estimate | None
    now: Float[Tensor, "1"]
    then: Float[Tensor, "1"]

    def predicted(self) -> Tensor:
        """xs."""
        if self.before is None or bool(self.then == 0):
            return self._carried(self.here.x0_hat)
        slope, length = self._slope_before(self.before)
        return self._carried(self.here.x0_hat + _scaled(length / 2, slope))

    def corrected(self, there: _Estimate) -> Tensor:
        """xs again, once the denoiser has spoken at the predicted one.

        The line becomes a parabola through three estimates; without the first one it is a line through the other two.
        """
        change = there.x0_hat - self.here.x0_hat
        if self.before is None:
            return self._carried(self.here.x0_hat + change / 2)
        slope, length = self._slope_before(self.before)
        of_line, of_change = _parabola(length, self.here.half_logsnr - self.before.half_logsnr)
        return self._carried(self.here.x0_hat + _scaled(of_line * length, slope) + _scaled(of_change, change))

    def _carried(self, x0_hat: Tensor) -> Tensor:
        """xs where x0_hat is constant."""
        shrink = self.schedule.sigma(self.then) / self.schedule.sigma(self.now)
        share = self.schedule.alpha(self.then) - self.schedule.alpha(self.now) * shrink
        return _scaled(shrink, self.xt) + _scaled(share, x0_hat)

    def _slope_before(self, before: _Estimate) -> tuple[Tensor, Tensor]:
        """d x0_hat / d lambda of the step before, and the length of this step in lambda."""
        length = self.schedule.logsnr(self.then) / 2 - self.here.half_logsnr
        past = self.here.half_logsnr - before.half_logsnr
        return _scaled(1 / past, self.here.x0_hat - before.x0_hat), length


def _parabola(length: Float[Tensor, "1"], past: Float[Tensor, "1"]) -> tuple[Float[Tensor, "1"], Float[Tensor, "1"]]:
    """What a parabola through the estimates before, at and after a step adds to x0_hat: factors of the slope before (times `length`) and of the change."""
    phi1 = torch.expm1(-length)
    linear = -(phi1 / length + 1) / phi1
    square = 2 * ((phi1 / length + 1) / length - 0.5) / phi1
    ratio = -past / length
    of_change = (square - ratio * linear) / (1 - ratio)
    return linear - of_change, of_change


def _scaled(factor: Float[Tensor, "1"], x: Tensor) -> Tensor:
    return factor.to(x.dtype) * x
