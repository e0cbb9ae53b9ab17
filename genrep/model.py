"""GenRep: one set of weights that perceives and generates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genrep.backbones import DiT
from genrep.codecs import CODECS
from genrep.denoiser import Denoiser
from genrep.model_config import ModelConfig
from genrep.modulators import MODULATORS
from genrep.posteriors import DenoisingGap, PosteriorEstimator
from genrep.posteriors.calibration import Calibration, ObjectCalibration
from genrep.posteriors.likelihood import METHODS, NegativeLogLikelihood
from genrep.randomness import SampleGenerator
from genrep.registry import lookup
from genrep.samplers import Ancestral, Sampler
from genrep.samplers.guidance import ClassifierFreeGuidance
from genrep.schedules import Schedule
from genrep.tasks import TASKS, Task, run_tasks
from genrep.types import Denoised, Detections, Features, Perception

T = TypeVar("T")


class GenRep(nn.Module):
    """The unified model: `perceive`, `generate`, `posterior`.

    Shapes: images [b 3 h w] in [-1, 1], conditions [b k] as 0/1 class sets with zeros = null.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if not config.class_names:
            raise ValueError("`class_names` is empty: a model needs to know its classes. Train through `genrep.train`, or name them.")
        self.config = config
        self.codec = lookup(CODECS, config.codec, "codec")()
        num_classes = len(config.class_names)
        trunk = DiT(config.trunk, channels=self.codec.channels, image_size=config.image_size, num_classes=num_classes)
        make = lookup(MODULATORS, config.modulator, "modulator")
        modulator = make(width=config.trunk.width, patch=trunk.stride, channels=self.codec.channels)
        self.denoiser = Denoiser(trunk, modulator, schedule=config.schedule, prediction=config.prediction)
        heads = {name: lookup(TASKS, name, "task") for name in config.tasks}
        options = {"detection": {"num_proposals": config.proposals}}
        self.heads = nn.ModuleDict({name: heads[name](trunk.spec, num_classes, **options.get(name, {})) for name in TASKS if name in heads})
        width = config.trunk.width
        self.projector = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.calibration: Calibration | None = None
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

    def tasks(self) -> Iterator[tuple[str, Task[Any, Any]]]:
        """The heads by name, in the registry's order: detection first, as the others see its objects."""
        for name, head in self.heads.items():
            assert isinstance(head, Task)
            yield name, head

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
        return self.codec.encode(image)

    def project(self, tap: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b n d"]:
        """Tokens of an early tap on noised input, projected to be compared with the teacher's (L_rep_align)."""
        return self.projector(tap.flatten(2).transpose(1, 2))

    def clean_features(self, x0: Tensor) -> Features:
        """The noise-free pass: t = 0, null condition, no semantics."""
        return self.denoiser.features(x0, x0.new_zeros(len(x0)))

    @torch.no_grad()
    def perceive(self, image: Float[Tensor, "b 3 h w"], *, batch_size: int = 256, bf16: bool = False) -> Perception:
        """Classes, objects and masks of images, on the CPU."""
        return _join([self._perceive(part, bf16) for part in image.split(batch_size)])

    def _perceive(self, image: Tensor, bf16: bool) -> Perception:
        x0 = self.encode(image.to(self.device))
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=bf16):
            features = self.clean_features(x0)
            found = {name: head.results(output) for name, head, output in run_tasks(self.tasks(), features)}
        log_probs, mask = found.get("classification"), found.get("segmentation")
        objects = found.get("detection")
        return Perception(
            class_log_probs=None if log_probs is None else log_probs.cpu(),
            detections=None if objects is None else [Detections(o.boxes_xyxy_px.cpu(), o.scores.cpu(), o.labels.cpu()) for o in objects],
            semantic_mask=None if mask is None else mask.cpu(),
        )

    def condition(self, classes: Int[Tensor, " b"] | Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """The condition y from labels [b] (-1: null) or class sets [b k].

        Raises:
            ValueError: a label out of range, a set of the wrong length.
        """
        num = len(self.class_names)
        if classes.ndim == 2 and classes.shape[1] == num:
            return classes.float().to(self.device)
        if classes.ndim != 1 or not bool(((classes >= -1) & (classes < num)).all()):
            values = sorted(set(classes.flatten().tolist()))[:5]
            raise ValueError(f"`classes` must be labels in -1..{num - 1} or sets [b, {num}]; found shape {list(classes.shape)}, values {values}.")
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
        batch_size: int = 250,
        bf16: bool = False,
    ) -> Float[Tensor, "b 3 h w"]:
        """Images of the given classes; image i is a function of (weights, condition, seed, index[i]).

        Args:
            classes: labels (-1: any) or class sets.
            index: seeds within `seed`, default 0 to b - 1.
            sampler: default `Ancestral(num_steps=25)`.
            guidance: 1 follows the condition as learnt, above 1 exaggerates it (two passes per step).
        """
        y = self.condition(classes)
        index = (torch.arange(len(y)) if index is None else index).to(self.device)
        denoise = self.denoise if guidance == 1 else ClassifierFreeGuidance(self.denoise, guidance)
        parts = []
        for rows in torch.arange(len(y), device=self.device).split(batch_size):
            generator = SampleGenerator(seed, index[rows], "generate")
            xt = generator.normal(self.codec.channels, *self.image_size)
            with torch.autocast(xt.device.type, torch.bfloat16, enabled=bf16):
                x0 = (sampler or Ancestral(num_steps=25))(denoise, xt, y[rows], schedule=self.schedule, generator=generator)
            parts.append(self.codec.decode(x0).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def log_likelihood(
        self,
        image: Float[Tensor, "b 3 h w"],
        *,
        estimator: PosteriorEstimator | None = None,
        seed: int = 0,
        index: Int[Tensor, " b"] | None = None,
        batch_size: int = 64,
        bf16: bool = False,
    ) -> Float[Tensor, "b k"]:
        """log p(image | class) of every single class, nats, up to a constant per image; uncalibrated, on the CPU.

        Args:
            index: of each image's random numbers within `seed`, default 0 to b - 1.
        """
        every_class = torch.eye(len(self.class_names), device=self.device)

        def find(x0: Tensor, rows: Tensor, generator: SampleGenerator) -> Tensor:
            candidates = every_class.expand(len(x0), -1, -1)
            return (estimator or DenoisingGap(budget=8))(self.denoiser.candidates, x0, candidates, schedule=self.schedule, generator=generator)

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
            estimator: default `DenoisingGap(budget=8)` as it was calibrated.
            log_prior: nats, up to a constant; default: uniform (`posteriors.prior.estimate_prior` finds one from unlabelled images).
            index: of each image's random numbers within `seed`, default 0 to b - 1.
        Raises:
            ValueError: the model has no stored calibration, or the estimator does not take this budget.
        """
        if self.calibration is None:
            raise ValueError("this model has no calibration, so its likelihoods are no posterior: train it with a posterior, or use `log_likelihood`.")
        estimator = estimator or DenoisingGap(budget=8, **self.calibration.gap)
        estimator = estimator if budget is None else replace(estimator, budget=budget)
        log_lik = self.log_likelihood(image, estimator=estimator, seed=seed, index=index, batch_size=batch_size, bf16=bf16)
        log_prior = torch.zeros(len(self.class_names)) if log_prior is None else log_prior
        return self.calibration.log_posterior(log_lik, log_prior, budget=estimator.budget)

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
            classes: labels (-1: any) or class sets; None: any.
            method: one of `posteriors.likelihood.METHODS`: integral, bound or flow.
            index: of each image's random numbers within `seed`, default 0 to b - 1.
            options: of the method, such as `num_draws`.
        Raises:
            ValueError: an unknown method, options that it does not take, classes that the model does not know.
        """
        y = self.condition(torch.full((len(image),), -1) if classes is None else classes)
        measure = lookup(METHODS, method, "method")

        def find(x0: Tensor, rows: Tensor, generator: SampleGenerator) -> NegativeLogLikelihood:
            return measure(self.denoiser.candidates, x0, y[rows], schedule=self.schedule, generator=generator, **options)

        parts = list(self._in_parts(image, find, "nll", seed, index, batch_size))
        nats, error = (torch.cat([getattr(part, name).cpu() for part in parts]) for name in ("nats", "standard_error"))
        return NegativeLogLikelihood(nats, error, parts[0].dimensions)

    def save_pretrained(self, folder: Path | str, *, results: Mapping[str, float] | None = None, recipe: str = "", half: bool = False) -> None:
        """Write a model folder: config.json, model.safetensors, README.md (model card), manifest.json.

        Args:
            results: measured figures for the card, by name, with `_low` and `_high` ends of 95 % intervals.
            recipe: how the model was made, for the card.
            half: store the weights as float16, half the size; they are computed with in float32 all the same.
        """
        from genrep.model_folder import save_model

        save_model(self, Path(folder), results=results or {}, recipe=recipe, half=half)

    @classmethod
    def from_pretrained(cls, folder: Path | str | None = None) -> GenRep:
        """Read a model folder; None: the model that comes with the package.

        Raises:
            ValueError: incomplete or damaged; the message names the file.
        """
        from genrep.model_folder import PACKAGED, load_model

        return load_model(PACKAGED if folder is None else Path(folder))


def _join(parts: list[Perception]) -> Perception:
    """Perceptions of consecutive batches as one."""

    def joined(pick: Callable[[Perception], Any], by: Callable[[list[Any]], Any]) -> Any:
        values = [pick(part) for part in parts]
        return None if not values or values[0] is None else by(values)

    return Perception(
        class_log_probs=joined(lambda p: p.class_log_probs, torch.cat),
        detections=joined(lambda p: p.detections, lambda lists: list(chain.from_iterable(lists))),
        semantic_mask=joined(lambda p: p.semantic_mask, torch.cat),
    )
