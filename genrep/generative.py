"""The generative side: a codec, a denoiser, and what they say of images: samples, likelihoods, posteriors, evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genrep.backbones import make_trunk
from genrep.codecs import make_codec
from genrep.denoiser import Denoiser
from genrep.drawing import Watch, Wishes, watched
from genrep.model_config import ModelConfig
from genrep.modulators import MODULATORS
from genrep.posteriors import DenoisingGap, PosteriorEstimator
from genrep.posteriors.calibration import Calibration, ObjectCalibration
from genrep.posteriors.likelihood import NegativeLogLikelihood, measuring
from genrep.randomness import SampleGenerator
from genrep.registry import lookup
from genrep.samplers import Ancestral, Sampler
from genrep.samplers.guidance import ClassifierFreeGuidance, Inpainting, PerceptionGuidance
from genrep.schedules import Schedule
from genrep.types import Batch, Denoise, Denoised

T = TypeVar("T")


class GenerativeModel(nn.Module):
    """A class-conditional diffusion model: `generate`, `log_likelihood`, `posterior`, `evidence`, `nll`.

    Shapes: images [b 3 h w] in [-1, 1], conditions [b k], how many objects of each class, zeros = null.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not config.class_names:
            raise ValueError("`class_names` is empty: a model needs to know its classes. Train through `genrep.train`, or name them.")
        self.config, self.codec = config, make_codec(config.codec, config.autoencoder)
        self.x0_size = self.codec.size_of(config.image_size)
        make, num, channels = lookup(MODULATORS, config.modulator, "modulator"), len(config.class_names), self.codec.channels
        trunk = make_trunk(config.trunk, channels=channels, image_size=self.x0_size, num_classes=num, num_semantics=make.num_told)
        modulator = make(width=config.trunk.width, patch=trunk.stride, channels=channels, num_classes=num)
        self.denoiser = Denoiser(trunk, modulator, schedule=config.schedule, prediction=config.prediction)
        self.calibration: Calibration | None = None
        self.estimator: PosteriorEstimator = DenoisingGap(budget=8)  # what is calibrated, where anything is
        self.object_calibration: ObjectCalibration | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.config.class_names

    @property
    def image_size(self) -> tuple[int, int]:
        return self.config.image_size

    @property
    def schedule(self) -> Schedule:
        return self.config.schedule

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def denoise(self, xt: Tensor, t: Tensor, y: Tensor) -> Denoised:
        """What samplers see (a `types.Denoise`)."""
        return self.denoiser(xt, t, y)

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Tensor:
        """x0 of images of the model's size.

        Raises:
            ValueError: another size, or values outside [-1, 1].
        """
        if image.ndim != 4 or image.shape[1] != 3 or tuple(image.shape[-2:]) != self.image_size:
            raise ValueError(f"`image` must be [b, 3, {self.image_size[0]}, {self.image_size[1]}]; found {list(image.shape)}. Resize it first.")
        if not bool(((image >= -1) & (image <= 1)).all()):
            raise ValueError("`image` must lie in [-1, 1] and be finite; found values outside. Divide bytes by 127.5 and subtract 1.")
        return self.codec.encode(image.to(next(self.parameters()).dtype))

    def condition(self, classes: Int[Tensor, " b"] | Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """The condition y from labels [b] (-1: null) or numbers of objects of each class [b k].

        Raises:
            ValueError: a label out of range, numbers for another number of classes, or negative ones.
        """
        num = len(self.class_names)
        if classes.ndim == 2 and classes.shape[1] == num and bool((classes >= 0).all()):
            return classes.float().to(self.device)
        if classes.ndim != 1 or not bool(((classes >= -1) & (classes < num)).all()):
            values = sorted(set(classes.flatten().tolist()))[:5]
            raise ValueError(f"`classes` must be labels in -1..{num - 1} or counts [b, {num}] from 0; found shape {list(classes.shape)}, values {values}.")
        return nn.functional.one_hot(classes.long() + 1, num + 1)[:, 1:].float().to(self.device)

    @torch.no_grad()
    def generate(
        self,
        classes: Int[Tensor, " b"] | Float[Tensor, "b k"],
        *,
        seed: int = 0,
        index: Int[Tensor, " b"] | None = None,
        sampler: Sampler | None = None,
        guidance: float = 1.0,
        wishes: Wishes | None = None,
        watch: Watch | None = None,
        batch_size: int = 250,
        bf16: bool = False,
    ) -> Float[Tensor, "b 3 h w"]:
        """Images of the given classes; image i is a function of (weights, condition, seed, index[i]).

        Args:
            classes: labels (-1: any) or numbers of objects of each class.
            index, sampler: seeds within `seed`, default 0 to b - 1; default `Ancestral(num_steps=25)`.
            guidance: 1 follows the condition as learnt, above 1 exaggerates it (two passes per step).
            wishes: what the images should be besides; a row for each of them.
            watch: shown, at every evaluation of a batch, what the sampler holds and what the model expects, as images on the CPU.
        Raises:
            ValueError: classes that `condition` refuses, images that `encode` does, or a reference that nothing would come of.
        """
        y, wishes, draw = self.condition(classes), wishes or Wishes(), sampler or Ancestral(num_steps=25)
        wishes.refuse_unheard(self.config.modulator, noisy=isinstance(draw, Ancestral))
        times = draw.times(self.schedule, wishes.strength, self.device)
        index = (torch.arange(len(y)) if index is None else index).to(self.device)
        parts = []
        for rows in torch.arange(len(y), device=self.device).split(batch_size):
            part = wishes.rows(rows)
            generator = SampleGenerator(seed, index[rows], "generate")
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                xt = generator.normal(self.codec.channels, *self.x0_size)
                known = None if part.image is None else self.encode(part.image.to(self.device))
                xt = xt if known is None else self.schedule.noised(known, torch.full_like(xt[:, 0, 0, 0], part.strength), xt)
                told = self.denoiser.condition(y[rows], self._semantics(part, y[rows], SampleGenerator(seed, index[rows], "semantics")))
                denoise = self._fulfilling(part, times, told, guidance, known)
                denoise = watched(denoise, watch, self.codec.decode) if watch else denoise
                x0 = draw(denoise, xt, told, schedule=self.schedule, generator=generator, start=part.strength)
            parts.append(part.keep(self.codec.decode(x0).cpu()))
        return torch.cat(parts)

    def _semantics(self, wishes: Wishes, y: Tensor, generator: SampleGenerator) -> Float[Tensor, "b s"]:
        """What the trunk is told: drawn, none where some of an image is kept, and as far as `likeness` goes a reference's."""
        drawn = None if wishes.keeps else self.denoiser.modulator.draw(y, generator)
        told = y.new_zeros(len(y), self.denoiser.modulator.num_told) if drawn is None else drawn
        reference = self._reference(wishes) if told.shape[1] else None
        return told if reference is None else torch.lerp(told.to(reference), reference, wishes.likeness)

    def _reference(self, wishes: Wishes) -> Tensor | None:
        return None if wishes.reference is None else self.denoiser.semantics(self.encode(wishes.reference.to(self.device)))

    def _fulfilling(self, wishes: Wishes, times: Tensor, y: Tensor, guidance: float, known: Tensor | None) -> Denoise:
        """The denoiser that fulfils a batch's wishes."""
        sem = None if self.denoiser.modulator.num_told else self._reference(wishes)
        denoise: Denoise = ClassifierFreeGuidance(self.denoiser.looped(times[:-1], y, sem=sem, likeness=wishes.likeness), guidance, wishes.guidance_interval)
        if wishes.wanted is not None:
            wanted = wishes.wanted.to(y.device)
            denoise = PerceptionGuidance(denoise, lambda x0_hat: self.agreement(x0_hat, wanted), self.schedule, wishes.insistence)
        if wishes.hidden is not None and known is not None:
            denoise = Inpainting(denoise, known, self.codec.touched(wishes.hidden.to(y.device))[:, None])
        return denoise

    def agreement(self, x0: Tensor, wanted: Batch) -> Float[Tensor, " b"]:
        """log p(annotations | x0) by what the model perceives.

        Raises:
            ValueError: it perceives nothing.
        """
        raise ValueError("`wanted` needs a model that perceives; this one only generates.")

    @torch.no_grad()
    def log_likelihood(
        self,
        image: Float[Tensor, "b 3 h w"],
        classes: Int[Tensor, "b m"] | None = None,
        *,
        estimator: PosteriorEstimator | None = None,
        seed: int = 0,
        index: Int[Tensor, " b"] | None = None,
        batch_size: int = 64,
        bf16: bool = False,
    ) -> Float[Tensor, "b m"]:
        """log p(image | class), nats, up to a constant per image; uncalibrated, on the CPU.

        Args:
            classes, index: which ones of each image, default all; which random numbers within `seed` it has, default 0 to b - 1.
        """
        classes = torch.arange(len(self.class_names)).expand(len(image), -1) if classes is None else classes.cpu()
        asked = nn.functional.one_hot(classes, len(self.class_names)).to(self.device, torch.float32)

        def find(x0: Tensor, rows: Tensor, generator: SampleGenerator) -> Tensor:
            return (estimator or self.estimator)(self.denoiser.candidates, x0, asked[rows], schedule=self.schedule, generator=generator)

        return torch.cat([part.cpu() for part in self._in_parts(image, find, "posterior", seed, index, batch_size, bf16)])

    def _in_parts(
        self, image: Tensor, find: Callable[..., T], stream: str, seed: int, index: Tensor | None, batch_size: int, bf16: bool = False
    ) -> Iterator[T]:
        """find(x0, rows, generator) of one batch after the other."""
        index = (torch.arange(len(image)) if index is None else index).to(self.device)
        for rows in torch.arange(len(image)).split(batch_size):
            x0 = self.encode(image[rows].to(self.device))
            with torch.autocast(x0.device.type, torch.bfloat16, enabled=bf16):
                yield find(x0, rows, SampleGenerator(seed, index[rows], stream))

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise ValueError("this model has no calibration: training with a posterior fits one, on labelled pictures of one object; or use `log_likelihood`.")
        return self.calibration

    def posterior(
        self,
        image: Float[Tensor, "b 3 h w"],
        *,
        budget: int | None = None,
        estimator: PosteriorEstimator | None = None,
        log_prior: Float[Tensor, " k"] | None = None,
        seed: int = 0,
        index: Int[Tensor, " b"] | None = None,
        batch_size: int = 64,
        bf16: bool = False,
    ) -> Float[Tensor, "b k"]:
        """log p(class | image) from the generative side, calibrated, on the CPU.

        Args:
            budget: evaluations per class; more is more certain. Default: the estimator's.
            estimator: default: what the calibration was fitted to, a denoising gap with twice the evaluations of training.
            log_prior: nats, up to a constant; default: uniform (`posteriors.prior.estimate_prior` finds one from unlabelled images).
            index: of each image's random numbers within `seed`, default 0 to b - 1.
        Raises:
            ValueError: the model has no stored calibration, or the estimator does not take this budget.
        """
        calibration = self._calibrated()
        estimator = replace(estimator or calibration.tuned(self.estimator), **({} if budget is None else {"budget": budget}))
        log_lik = self.log_likelihood(image, estimator=estimator, seed=seed, index=index, batch_size=batch_size, bf16=bf16)
        return calibration.log_posterior(log_lik, log_lik.new_zeros(log_lik.shape[1]) if log_prior is None else log_prior, budget=estimator.budget)

    @torch.no_grad()
    def evidence(
        self,
        image: Float[Tensor, "b 3 h w"],
        of: Int[Tensor, " b"],
        against: Int[Tensor, " b"],
        *,
        budget: int = 64,
        seed: int = 0,
        index: Int[Tensor, " b"] | None = None,
        batch_size: int = 64,
    ) -> Float[Tensor, "b h w"]:
        """Why one class and not another: where in the image the log-odds of the generative side come from, nats, on the CPU.

        Summed over positions: log p(of | image) - log p(against | image) of `posterior` before biases, with two candidates.

        Args:
            of, against, budget, index: labels, evaluations of either class, and which random numbers within `seed` an image has (default 0 to b - 1).
        Raises:
            ValueError: the model has no calibration, or one of an estimator that has no maps; a label is none of its classes.
        """
        calibration = self._calibrated()
        if not isinstance(tuned := calibration.tuned(self.estimator), DenoisingGap):
            raise ValueError(f"evidence needs a model calibrated for a denoising gap, which has maps; found {type(tuned).__name__}.")
        estimator, pair = replace(tuned, budget=budget, rounds=1), torch.stack([self.condition(of), self.condition(against)], 1)

        def find(x0: Tensor, rows: Tensor, generator: SampleGenerator) -> Tensor:
            return -estimator.maps(self.denoiser.candidates, x0, pair[rows], schedule=self.schedule, generator=generator).diff(dim=1).squeeze(1)

        maps = [part.cpu() for part in self._in_parts(image, find, "evidence", seed, index, batch_size)]
        return calibration.tau_at(budget) * self.codec.spread(torch.cat(maps))

    @torch.no_grad()
    def nll(
        self,
        image: Float[Tensor, "b 3 h w"],
        classes: Int[Tensor, " b"] | Float[Tensor, "b k"] | None = None,
        *,
        method: str = "integral",
        seed: int = 0,
        index: Int[Tensor, " b"] | None = None,
        batch_size: int = 64,
        **options: int,
    ) -> NegativeLogLikelihood:
        """-log p(image | class), absolute, on the CPU; a bound for a trained network by all methods but `flow`.

        Args:
            classes: labels (-1: any) or numbers of objects of each class; None: any.
            method: one of `posteriors.likelihood.METHODS`: integral, bound or flow.
            index: of each image's random numbers within `seed`, default 0 to b - 1.
            options: of the method, such as `num_draws`.
        Raises:
            ValueError: an unknown method, options that it does not take, classes that the model does not know; or a model of latents.
        """
        self.codec.require_pixels()
        y, measure = self.condition(torch.full((len(image),), -1) if classes is None else classes), measuring(method, options)

        def find(x0: Tensor, rows: Tensor, generator: SampleGenerator) -> NegativeLogLikelihood:
            return measure(self.denoiser.candidates, x0, y[rows], schedule=self.schedule, generator=generator)

        parts = list(self._in_parts(image, find, "nll", seed, index, batch_size))
        nats, error = (torch.cat([getattr(part, name).cpu() for part in parts]) for name in ("nats", "standard_error"))
        return NegativeLogLikelihood(nats, error, parts[0].dimensions)
