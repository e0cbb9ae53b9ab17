"""Garments and scenes of garments: the embedded data."""

from __future__ import annotations

from dataclasses import replace

from genrep.aligners import GenRepRule
from genrep.augmentation import Augmentation
from genrep.backbones import DiTConfig
from genrep.config import Config, DataConfig, EvalConfig, TrainConfig
from genrep.model_config import ModelConfig
from genrep.objective import ObjectiveConfig
from genrep.samplers import Ancestral, Euler

SCENES_TWICE = ("fashion", "fashion-scenes", "fashion-scenes")
"""A scene is harder to see than one garment."""

SMALL_STEPS = TrainConfig(stage1_batch_size=8, batch_size=8, stage1_glimpses=32, glimpses=32, lr=2.5e-3, perception_weight=0.6, generation_weight=0.4)
"""Many small updates."""


def demo() -> Config:
    """The whole method on one sitting's compute.

    `make demo`: 16 to 30 min on two CPU cores, set-up, evaluation and report included. On test, seed 0: top-1 .889, AP50 .753,
    mIoU without background .522, samples recognised .804.
    """
    return Config(
        name="demo",
        data=DataConfig(num_train=24_000),
        model=ModelConfig(trunk=DiTConfig(width=128, class_blocks=3), proposals=6),
        objective=ObjectiveConfig(draws=1, segmentation_weight=3.0, gate_at=(0.5,), gate_images=192, prior_images=9_000, prior_steps=3_000),
        train=replace(SMALL_STEPS, stage1_glimpses=24, glimpses=12, perception_weight=0.4, generation_weight=0.6, stage1_images=4_800, stage2_images=13_600),
        eval=EvalConfig(num_samples=500, num_guidance_samples=150, guidance_grid=(1.0, 1.5, 2.0, 3.0), sampler=Ancestral(num_steps=18)),
    )


def showcase() -> Config:
    """The demo, longer, with depth: what two cores make in an hour; the model that comes with the package also saw a GPU (docs/packaged.md).

    `make showcase`: 64 min 1 s of training, 3 min 18 s of evaluation on two CPU cores. On test, seed 0: top-1 .919, AP50 .864, mIoU without background
    .655, depth order .831 (before depth was told object by object), samples recognised .860; what it should reach is in `cli/figures.py::TARGETS`.
    Semantics are what a noised image shows: drawn before the image they made samples of single garments worse here (.763), where two thirds of the images
    are scenes (CHANGELOG, Findings).
    """
    return Config(
        name="showcase",
        data=DataConfig(sets=SCENES_TWICE, num_train=240_000),
        model=ModelConfig(
            trunk=DiTConfig(width=128, class_blocks=3),
            tasks=("classification", "detection", "segmentation", "depth"),
            modulator="semantic",
            proposals=8,
        ),
        objective=ObjectiveConfig(draws=1, segmentation_weight=3.0, distil_every=16, sem_clean=0.25, sem_own=0.5),
        train=replace(SMALL_STEPS, stage1_images=16_000, stage2_images=80_000),
        eval=EvalConfig(guidance_grid=(1.0, 1.5, 2.0, 2.5), num_guidance_samples=1_000, num_scene_samples=500),
    )


def all_labels() -> Config:
    """All images with their labels, classes only: what perception does for generation.

    `genrep bench evidence --suite generation` trains its arms and seeds, a thread each.
    """
    return replace(
        few_labels(),
        name="all-labels",
        data=DataConfig(sets=("fashion",)),
        objective=ObjectiveConfig(draws=1, posterior=None),
        train=replace(few_labels().train, stage1_images=6_400, stage2_images=24_000),
    )


def few_labels() -> Config:
    """All images, a hundredth of their labels, classes only: what generation and perception are to each other where labels are few.

    Short, and without a stage of its own for perception: what sees 600 labels longer learns them by heart.

    `genrep bench evidence --suite few-labels` trains its arms and seeds, a thread each.
    """
    return Config(
        name="few-labels",
        data=DataConfig(sets=("fashion",), labelled_fraction=0.01),
        model=ModelConfig(trunk=DiTConfig(width=128, class_blocks=3), tasks=("classification",)),
        objective=ObjectiveConfig(draws=1, distil_every=8, gate_at=(0.3, 0.5, 0.7, 0.85)),
        train=TrainConfig(
            stage1_images=0,
            stage1_batch_size=8,
            stage2_images=12_000,
            batch_size=8,
            lr=2.5e-3,
            perception_weight=0.5,
            generation_weight=0.5,
            side_by_side=1,
        ),
        eval=EvalConfig(num_test=10_000, num_samples=2_000, guidance=1.0),
    )


def few_labels_long() -> Config:
    """`few_labels`, eight times as long, in larger batches and with what a head that sees so few labels so often needs: images moved and mirrored, and its own
    labels of what it is sure of. Generation teaches it the others.

    `genrep bench evidence --suite few-labels-long` trains its arms and seeds, a thread each: 40 minutes a run on a CPU with bfloat16.
    """
    short = few_labels()
    objective = replace(short.objective, augment=Augmentation(shift_px=2, mirror=True), self_training=True, distil_every=1, distil_shortlist=3)
    return replace(short, name="few-labels-long", objective=objective, train=replace(short.train, stage2_images=96_000, batch_size=96))


def aligners() -> Config:
    """Scenes, seen and made by one trunk without anything else between the two jobs: what aligning their gradients does.

    `genrep bench evidence --suite aligners` trains its arms and seeds, a thread each.
    """
    base = demo()
    return replace(
        base,
        name="aligners",
        data=DataConfig(sets=("fashion-scenes",), num_train=24_000),
        model=replace(base.model, tasks=("multilabel", "detection", "segmentation"), modulator="none"),
        objective=replace(base.objective, alignment_weight=0.0, posterior=None),
        aligner=GenRepRule(),
        train=replace(base.train, stage1_images=0, glimpses=0, stage2_images=9_600, perception_weight=0.5, generation_weight=0.5, side_by_side=1),
        eval=EvalConfig(num_test=1_000, num_scene_samples=500, guidance=1.0, sampler=Ancestral(num_steps=18)),
    )


def tiny() -> Config:
    """Seconds, for tests: everything is on, nothing is learnt."""
    return Config(
        name="tiny",
        data=DataConfig(num_train=64),
        model=ModelConfig(trunk=DiTConfig(width=32, depth=3, num_heads=2, stem_width=8, class_blocks=2, taps=(1, 3)), proposals=4),
        objective=ObjectiveConfig(gate_images=16, distil_images=4, prior_steps=4),
        train=TrainConfig(stage1_images=64, stage2_images=128, stage1_batch_size=16, batch_size=8, stage1_glimpses=4, glimpses=4, log_every=1),
        eval=EvalConfig(
            num_test=16,
            num_samples=20,
            num_guidance_samples=10,
            num_posterior=8,
            num_robust=8,
            num_likelihood=4,
            guidance_grid=(1.0, 2.0),
            sampler=Euler(num_steps=3),
            batch_size=16,
        ),
    )
