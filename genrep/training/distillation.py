"""Generation -> perception in the training loop: calibrate the posterior, and ask whether it knows anything that the heads do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genrep.model import GenRep
from genrep.objective import ObjectiveConfig
from genrep.posteriors import DenoisingGap
from genrep.posteriors.base import PosteriorEstimator
from genrep.posteriors.calibration import Calibration, ObjectCalibration, fit_calibration, fit_object_calibration
from genrep.posteriors.gate import Gate, fit_gate
from genrep.randomness import SampleGenerator
from genrep.training.confidence import fit_confidence
from genrep.training.object_likelihoods import ObjectLikelihoods, object_log_likelihoods, object_scores, shortlisted
from genrep.training.pilot import run_pilot
from genrep.types import UNLABELLED, Batch

C = TypeVar("C", Calibration, ObjectCalibration)

PILOT: dict[str, int] = {"num_parts": 10, "num_draws": 2}
"""A pilot run in training."""


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """What has been fitted so far; part of the checkpoint."""

    calibration: Calibration | None = None
    image_gate: Gate | None = None
    object_calibration: ObjectCalibration | None = None
    object_gate: Gate | None = None

    @property
    def teaches_images(self) -> bool:
        return self.calibration is not None and self.image_gate is not None and self.image_gate.teaches

    @property
    def teaches_objects(self) -> bool:
        return self.object_calibration is not None and self.object_gate is not None and self.object_gate.teaches

    def to_dict(self) -> dict[str, Any]:
        """Plain json values."""
        return {name: part.to_dict() if part else None for name, part in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Teaching:
        """The inverse of `to_dict`."""
        kinds: dict[str, Any] = {"calibration": Calibration.from_dict, "object_calibration": ObjectCalibration.from_dict}
        return cls(**{name: kinds.get(name, Gate.from_dict)(value) if value else None for name, value in values.items()})


def cross_fitted(
    row: Int[Tensor, " r"],
    num_images: int,
    calibrated: Callable[[Int[Tensor, " s"]], C],
    posterior: Callable[[C, Int[Tensor, " s"]], Float[Tensor, "s m"]],
    *,
    never: int = 0,
) -> tuple[Int[Tensor, " j"], Float[Tensor, "j m"]]:
    """Posteriors of validation entries, each by a calibration that has not seen its image: a gate that has seen its judge's labels opens for noise.

    Args:
        row: which of the `num_images` images each entry is of, ascending. The images are in two halves, each calibrated for by the other.
        never: how many of the first images are not judged, but calibrate for both halves: those of the pilot run, which has seen their labels.
    Returns:
        which entries are judged, and their log-posteriors; none where one of the halves is empty.
    """
    cut = never + (num_images - never + 1) // 2
    first, second = torch.nonzero((row >= never) & (row < cut)).squeeze(1), torch.nonzero(row >= cut).squeeze(1)
    if not len(first) or not len(second):
        return first[:0], torch.zeros(0, 1)
    always = torch.nonzero(row < never).squeeze(1)
    by_other = [posterior(calibrated(torch.cat([always, other])), mine) for mine, other in ((first, second), (second, first))]
    return torch.cat([first, second]), torch.cat(by_other)


def labeller_beside(model: GenRep, folder: str) -> GenRep:
    """A finished model that says what images show, where the one in training computes.

    Raises:
        ValueError: it perceives nothing, or knows other classes or another image size.
    """
    found = GenRep.from_pretrained(folder).to(model.device)
    differs = next((name for name in ("class_names", "image_size", "codec") if getattr(found.config, name) != getattr(model.config, name)), None)
    if differs:
        raise ValueError(f"`objective.labeller` {folder} has another `{differs}` than this model; a labeller sees the same classes in the same images.")
    if not found.config.tasks:
        raise ValueError(f"`objective.labeller` {folder} perceives nothing; name a model that has a task.")
    return found


class Teacher:
    """Distillation's side of the loop: fits on validation images now and then; `training.lessons` is given on training batches.

    Args:
        model: the momentum teacher; both the posterior and the head's opinion come from it.
    """

    def __init__(self, model: GenRep, config: ObjectiveConfig, *, seed: int, bf16: bool = False) -> None:
        self.model, self.config, self.seed, self.bf16 = model, config, seed, bf16
        self.labeller = labeller_beside(model, config.labeller) if config.labeller else None
        """Who is asked in its place what images without annotations show."""
        self.teaching = Teaching()

    def fit(self, val: Batch) -> list[dict[str, Any]]:
        """Calibrate and gate on labelled validation images; returns one event per kind of posterior, none where there is no choice."""
        events: list[dict[str, Any]] = []
        if self.model.denoiser.num_classes < 2:
            return events
        if "classification" in self.model.heads and int(val.single.sum()) > 1:
            events.append(self._fit_images(val.rows(val.single), bf16=self.bf16))
        several = (val.object_labels != UNLABELLED).sum(1) > 1
        if "detection" in self.model.heads and isinstance(self.config.posterior, DenoisingGap) and bool(several.any()):
            events.append(self._fit_objects(val.rows(several)))
        return events

    def calibrate(self, val: Batch) -> list[dict[str, Any]]:
        """What the finished model keeps: how sure its heads may be; with a posterior, that of images calibrated for all budgets, on all labelled validation
        images, and its gate.

        Returns:
            one event per fit; none where there is no choice.
        """
        events, single = fit_confidence(self.model, val), val.rows(val.single)
        if not self.config.posterior or self.model.denoiser.num_classes < 2 or "classification" not in self.model.heads or len(single) < 2:
            return events
        event = self._fit_images(single, times=(1, 4), bf16=False)
        if isinstance(self._posterior, DenoisingGap):  # others are calibrated at their own budget alone
            self.model.estimator = replace(self._posterior, budget=2 * self._posterior.budget)
        calibration = self.teaching.calibration
        assert calibration is not None
        kept = ("tau", "weight", "standard_error", "head_weight", "head_alone")
        return [*events, {"event": "calibration", **{name: event[name] for name in kept}, "noisiness": calibration.noisiness, "num": len(single)}]

    @torch.no_grad()
    def _fit_images(self, val: Batch, *, times: tuple[int, ...] = (1,), bf16: bool) -> dict[str, Any]:
        """Calibration and gate of an image's class.

        Args:
            times: what multiples of the estimator's budget are fitted together, ascending; the last judges.
        """
        estimator = self._piloted(val)
        times = times if isinstance(estimator, DenoisingGap) else times[:1]  # the others' errors do not fall so simply
        at = [replace(estimator, budget=n * estimator.budget) for n in times]
        log_lik = {one.budget: self.image_likelihoods(one, val, val.index, bf16=bf16) for one in at}
        most = at[-1].budget
        log_head = self.model.perceive(val.image).class_log_probs
        assert log_head is not None
        label = val.label.cpu()

        def calibrated(rows: Int[Tensor, " r"]) -> Calibration:
            return _fitted(estimator, {budget: values[rows] for budget, values in log_lik.items()}, label[rows])

        def posterior(calibration: Calibration, rows: Int[Tensor, " r"]) -> Float[Tensor, "r k"]:
            return calibration.log_posterior(log_lik[most][rows], torch.zeros(log_head.shape[1]), budget=most)

        seen = 0 if estimator is self._posterior else self._num_seen(val)
        judged, log_posterior = cross_fitted(torch.arange(len(val)), len(val), calibrated, posterior, never=seen)
        calibration = calibrated(torch.arange(len(val)))
        gate = fit_gate(log_head[judged], log_posterior, label[judged]) if len(judged) else Gate(weight=0.0, standard_error=1.0)  # too few to judge by
        self.teaching = replace(self.teaching, calibration=calibration, image_gate=gate)
        self.model.calibration, self.model.gate = calibration, gate
        self.model.estimator = self._posterior
        return _event("image", gate, calibration.tau, log_posterior, log_head[judged], label[judged])

    @torch.no_grad()
    def _fit_objects(self, val: Batch) -> dict[str, Any]:
        scores = object_scores(self.model, val)
        found = self.object_likelihoods(val, scores, val.index)
        truth, log_lik, area, candidates = (each.cpu() for each in (found.truth, found.log_lik, found.area, found.candidates))

        def calibrated(rows: Int[Tensor, " r"]) -> ObjectCalibration:
            return fit_object_calibration(log_lik[rows], truth[rows], area=area[rows], classes=candidates[rows], num_classes=scores.shape[2])

        def posterior(calibration: ObjectCalibration, rows: Int[Tensor, " r"]) -> Float[Tensor, "r m"]:
            return calibration.log_posterior(log_lik[rows], area[rows], candidates[rows])

        judged, log_posterior = cross_fitted(found.row.cpu(), len(val), calibrated, posterior)
        if not len(judged):  # nothing to calibrate on, or nothing to judge by
            return _event("object", Gate(weight=0.0, standard_error=1.0), 1.0, log_posterior, log_posterior, truth[judged])
        calibration = calibrated(torch.arange(len(truth)))
        log_head = shortlisted(scores, found).cpu()[judged]
        gate = fit_gate(log_head, log_posterior, truth[judged])
        self.teaching = replace(self.teaching, object_calibration=calibration, object_gate=gate)
        self.model.object_calibration = calibration
        return _event("object", gate, calibration.tau, log_posterior, log_head, truth[judged])

    @torch.no_grad()
    def _piloted(self, val: Batch) -> PosteriorEstimator:
        """The configured estimator, weighing noise levels as they serve to recognise the first images, and drawing where that matters.

        What the configuration says of either stays as it is.
        """
        estimator = self._posterior
        if not isinstance(estimator, DenoisingGap) or not self.config.pilot_images or (estimator.weights and estimator.allocation):
            return estimator
        pilot = val.rows(slice(self._num_seen(val)))
        candidates = torch.eye(self.model.denoiser.num_classes, device=pilot.image.device).expand(len(pilot), -1, -1)
        generator = SampleGenerator(self.seed, pilot.index, "pilot")
        x0, schedule = self.model.encode(pilot.image), self.model.schedule
        found = run_pilot(estimator, self.model.denoiser.candidates, x0, candidates, schedule=schedule, generator=generator, **PILOT)
        found = found if estimator.weights else found.weighted(pilot.label)
        return found.estimator if estimator.allocation else found.allocated()

    def _num_seen(self, val: Batch) -> int:
        """How many of these images a pilot run sees, so that others are left to judge."""
        return min(self.config.pilot_images, len(val) // 2)

    @property
    def _posterior(self) -> PosteriorEstimator:
        assert self.config.posterior
        return self.config.posterior

    def image_likelihoods(
        self, estimator: PosteriorEstimator, batch: Batch, index: Tensor, *, bf16: bool, classes: Int[Tensor, "b m"] | None = None
    ) -> Float[Tensor, "b m"]:
        return self.model.log_likelihood(batch.image, classes, estimator=estimator, seed=self.seed, index=index, bf16=bf16)

    def object_likelihoods(self, batch: Batch, scores: Tensor, index: Tensor) -> ObjectLikelihoods:
        assert isinstance(self.config.posterior, DenoisingGap)
        return object_log_likelihoods(
            self.model, batch, scores, estimator=self.config.posterior, index=index, seed=self.seed, num_candidates=self.config.distil_candidates
        )


def _fitted(estimator: PosteriorEstimator, log_lik: Mapping[int, Tensor], label: Int[Tensor, " n"]) -> Calibration:
    """A calibration of likelihoods by budget, which knows how their estimator draws and weighs."""
    found = fit_calibration(log_lik, label, torch.zeros(log_lik[estimator.budget].shape[1]))
    return replace(found, allocation=estimator.allocation, weights=estimator.weights) if isinstance(estimator, DenoisingGap) else found


def _event(kind: str, gate: Gate, tau: float, log_posterior: Tensor, log_head: Tensor, truth: Tensor) -> dict[str, Any]:
    """The line that events.jsonl keeps of a fit."""

    def accuracy(log_probs: Tensor) -> float:
        return float((log_probs.argmax(1) == truth).sum()) / max(len(truth), 1)

    return {
        "event": "gate",
        "kind": kind,
        "weight": gate.weight,
        "head_weight": gate.head,
        "head_alone": gate.alone,
        "standard_error": gate.standard_error,
        "teaches": gate.teaches,
        "tau": tau,
        "posterior_accuracy": accuracy(log_posterior),
        "head_accuracy": accuracy(log_head),
        "num": len(truth),
    }
