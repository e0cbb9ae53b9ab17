"""GenRep: one set of weights that perceives and generates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genrep.backbones import Asking, answer
from genrep.generative import GenerativeModel
from genrep.model_config import ModelConfig
from genrep.posteriors.gate import Gate
from genrep.registry import lookup
from genrep.tasks import TASKS, Task, run_tasks
from genrep.tasks.base import SCAN_WIDTH, Scan
from genrep.tasks.regions import NUM_SEEN
from genrep.types import Batch, Detections, Features, FeatureSpec, Perception, Seen

Found = TypeVar("Found")


def in_pixels(spec: FeatureSpec, stride: int) -> FeatureSpec:
    """What a trunk on x0 says of its features, as of those of images, of which a place of x0 covers `stride` pixels each way."""
    height, width = spec.image_size
    strides = tuple(stride * each for each in spec.stem_strides)
    return replace(spec, image_size=(stride * height, stride * width), tap_stride=stride * spec.tap_stride, stem_strides=strides)


class GenRep(GenerativeModel):
    """The unified model: a generative model whose trunk also perceives, `perceive`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        trunk, width = self.denoiser.trunk, config.trunk.width
        heads = {name: lookup(TASKS, name, "task") for name in config.tasks}
        options: dict[str, dict[str, Any]] = {
            "detection": {"num_proposals": config.proposals},
            "depth": {"kind": config.depth, "of_objects": config.object_depth},
        }
        glimpses = any(head.glimpses for head in heads.values())
        spec = in_pixels(trunk.spec, self.codec.stride)
        self.scan = Scan(spec) if glimpses else None
        spec = replace(spec, scan=SCAN_WIDTH if glimpses else 0, seen=NUM_SEEN if config.proposals and "detection" in heads else 0)
        self.heads = nn.ModuleDict({name: heads[name](spec, len(self.class_names), **options.get(name, {})) for name in TASKS if name in heads})
        self.gate: Gate | None = None
        """What the head and the generative side weigh beside each other, fitted with the calibration."""
        self.projector = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def tasks(self) -> Iterator[tuple[str, Task[Any, Any]]]:
        """The heads by name, in the registry's order: detection first, as the others see its objects."""
        for name, head in self.heads.items():
            assert isinstance(head, Task)
            yield name, head

    def project(self, tap: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b n d"]:
        """Tokens of an early tap on noised input, projected to be compared with the teacher's (L_rep_align)."""
        return self.projector(tap.flatten(2).transpose(1, 2))

    def clean_features(self, x0: Tensor) -> Features:
        """The noise-free pass: t = 0."""
        return self.scanned(self.denoiser.clean_features(x0))

    def glimpse(self, x0: Tensor) -> Features:
        """A clean image by the stem alone: features without taps, at a small part of the cost of a pass."""
        return self.scanned(self.denoiser.trunk.stem_features(x0))

    def scanned(self, features: Features) -> Features:
        """What the trunk gives, with the scan where a head reads it."""
        return features if self.scan is None else replace(features, scan=self.scan(features))

    def agreement(self, x0: Tensor, wanted: Batch) -> Float[Tensor, " b"]:
        """log p(annotations | x0) by the heads, [b] nats: of each image by itself, less its losses in all tasks."""
        features = self.denoiser.clean_features(x0)
        rows = torch.arange(len(x0), device=x0.device).split(1)
        return -torch.stack([self._task_loss(features.rows(row), wanted.rows(row)) for row in rows])

    def _task_loss(self, features: Features, batch: Batch) -> Float[Tensor, ""]:
        losses = [head.loss(output, batch) for _, head, output in run_tasks(self.tasks(), self.scanned(features))]
        return torch.stack([term for terms in losses for term in terms.values()]).sum()

    def answer(self, asking: Asking[Found]) -> Found:
        """What a computation comes to that asks for one pass of this model's trunk, as losses do."""
        return answer([self.denoiser.trunk], [asking])[0]

    @torch.no_grad()
    def seen(self, features: Features, confidence: float) -> Seen | None:
        """What images hold, by the first of the tasks that says; None where none does.

        Args:
            confidence: probability above which a task is sure of a class.
        """
        return next((seen for _, head, output in run_tasks(self.tasks(), features) if (seen := head.seen(output, confidence))), None)

    @torch.no_grad()
    def results(self, features: Features) -> dict[str, Any]:
        """What each task makes of images, by its name."""
        return {name: head.results(output) for name, head, output in run_tasks(self.tasks(), features)}

    @torch.no_grad()
    def perceive(self, image: Float[Tensor, "b 3 h w"], *, batch_size: int = 256, bf16: bool = False) -> Perception:
        """Classes, objects and masks of images, on the CPU."""
        return Perception.cat([self._perceive(part, bf16) for part in image.split(batch_size)])

    def _perceive(self, image: Tensor, bf16: bool) -> Perception:
        x0 = self.encode(image.to(self.device))
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=bf16):
            found = self.results(self.clean_features(x0))
        log_probs, presence, mask = found.get("classification"), found.get("multilabel"), found.get("segmentation")
        objects, inv_depth = found.get("detection"), found.get("depth")
        return Perception(
            class_log_probs=None if log_probs is None else log_probs.cpu(),
            detections=None if objects is None else [Detections(o.boxes_xyxy_px.cpu(), o.scores.cpu(), o.labels.cpu()) for o in objects],
            semantic_mask=None if mask is None else mask.cpu(),
            inv_depth=None if inv_depth is None else inv_depth.cpu(),
            presence=None if presence is None else presence.cpu(),
        )

    def combined(
        self, image: Float[Tensor, "b 3 h w"], *, budget: int | None = None, seed: int = 0, index: Int[Tensor, " b"] | None = None, bf16: bool = False
    ) -> Float[Tensor, "b k"]:
        """log p(class | image) of the head and the generative side together, on the CPU: their product, each to the power that validation labels ask for.

        Args:
            budget, seed, index: of `posterior`.
        Raises:
            ValueError: the model has no gate, as it was trained without a posterior or by an earlier version.
        """
        if self.gate is None:
            raise ValueError("this model does not know what its head and its posterior weigh beside each other: train it with a posterior, by this version.")
        head = self.perceive(image, bf16=bf16).class_log_probs
        assert head is not None, "a gate is fitted where there is a head"
        return self.gate.product(head, self.posterior(image, budget=budget, seed=seed, index=index, bf16=bf16))

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
