"""The suites that are declared here."""

from __future__ import annotations

from dataclasses import replace

from genrep.evaluation.front import Front
from genrep.evaluation.published import Effect, Published, Row
from genrep.evaluation.suite import Claim, Suite

_RIVALS = ("untaught", "smoothed", "shuffled", "tempered", "self-trained")
_PLAIN = {"model.modulator": "none", "objective.alignment_weight": "0"}
_AS_IN_THE_PAPER = {"objective.sem_clean": "0.25", "objective.sem_own": "0.5"}
"""What the noised image shows stands in for semantics when samples are made."""
_PLAIN_ALONE = {**_PLAIN, "objective.jobs": "generation", "objective.posterior": "none"}

_OF_LABELS = (
    *(Claim(figure="classification/top1", arm="taught", against=other) for other in _RIVALS),
    *(Claim(figure="classification/ece", arm="taught", against=other, less=True) for other in _RIVALS),
    Claim(figure="generation/sample_accuracy", arm="taught", against="made", by=0.1),
    Claim(figure="generation/sample_accuracy", arm="taught", against="made-from-labels"),
    *(Claim(figure="generation/class_kid", arm="taught", against=other, less=True) for other in ("made", "made-from-labels")),
)
"""One model against two, and against placebos, where labels are few."""
_INTERACTION = (
    Claim(figure="classification/top1", arm="taught", against="untaught", beside=("taught-plain", "plain")),
    Claim(figure="generation/kid", arm="taught", against="untaught", beside=("taught-plain", "plain"), less=True),
)
"""Distillation and semantics do more for each other than for themselves."""
_THE_PAPERS = Published(
    source="L. Li, Y. Yang, W. Wang, ICLR 2026; ImageNet, one seed, without alignment but in the last row, where here every arm has it but `taught-summed`",
    rows=(
        Row("diffusion backbone alone", "plain", {"classification/top1": 0.454, "generation/fid": 13.27}),
        Row("+ generative perception learning", "taught-plain", {"classification/top1": 0.478, "generation/fid": 12.96}),
        Row("+ semantic-driven generation alone", "untaught", {"classification/top1": 0.441, "generation/fid": 7.45}),
        Row("both", "taught-summed", {"classification/top1": 0.494, "generation/fid": 7.23}),
        Row("both + gradient alignment", "taught", {"classification/top1": 0.511, "generation/fid": 6.92}),
    ),
    effects=(
        Effect("generation teaches", (1, 0), ("taught-plain", "plain")),
        Effect("semantics drive", (2, 0), ("untaught", "plain")),
        Effect("both", (3, 0), ("taught", "plain")),
        Effect("both, beyond their sum", (3, 2, 1, 0), ("taught", "untaught", "taught-plain", "plain")),
        Effect("alignment, beside both", (4, 3), ("taught", "taught-summed")),
    ),
)
_OF_BOTH_JOBS = (
    "classification/top1",
    "classification/ece",
    "classification/nll",
    "generation/sample_accuracy",
    "generation/class_kid",
    "generation/kid",
    "generation/recall",
)

_OF_PHOTOS = ("classification/top1", "detection/ap", "segmentation/miou_foreground")
_ETH80 = "ETH-80 (B. Leibe, B. Schiele, CVPR 2003), reduced: 1,968 photos of 96 x 96 px, objects 1 to 6 of 8 classes, and 656 of objects 7 and 8"
_FEW_PHOTOS = {
    "data.labelled_fraction": "0.1",
    "train.stage1_images": "800",
    "train.stage2_images": "3200",
    "train.stage1_glimpses": "8",
    "train.glimpses": "4",
    "objective.posterior": "none",
    "objective.prior_steps": "10",
    "eval.num_samples": "0",
}
_SHOWN_OF_PHOTOS = (
    *(*_OF_PHOTOS, "classification/nll", "classification/ece"),
    *(f"robustness/{kind}_{figure}" for kind in ("noise", "corruptions") for figure in ("top1", "ap50", "miou_foreground")),
)
_OF_ONE_MODEL_ON_PHOTOS = Suite(
    recipe="own",
    data=_ETH80,
    settings=_FEW_PHOTOS,
    arms={
        "joint": {},
        "alone": {"objective.jobs": "perception"},
        "self-trained": {"objective.jobs": "perception", "objective.self_training": "true"},
    },
    claims=tuple(Claim(figure=figure, arm="joint", against=other) for other in ("alone", "self-trained") for figure in _OF_PHOTOS),
    shown=_SHOWN_OF_PHOTOS,
)
_CIFAR10 = "CIFAR-10 (A. Krizhevsky, 2009), reduced: 10,000 pictures of 32 x 32 px, kept as JPEG, and 2,000 others of its training set"
_OF_SIGHT = (("classification/top1", False), ("classification/nll", True), ("robustness/noise_top1", False), ("robustness/corruptions_top1", False))
"""Of one class a picture, and whether less is better."""
_OF_SCENES = ("multilabel/map", "detection/ap50", "segmentation/miou_foreground")
_SUMS = {f"sum-{times}": {"aligner": "weighted_sum", "train.perception_weight": f"{1 / (1 + times):.4g}"} for times in (1, 4, 16, 64, 256)}
"""Generation's gradient counts so many times; perception's is some 15 times as long."""
_RULES = {
    "uncertainty": {"aligner": "uncertainty"},
    "pcgrad": {"aligner": "pcgrad"},
    "cagrad": {"aligner": "cagrad"},
    "bisector": {"aligner": "bisector"},
    "paper": {},
    "balanced": {"aligner.balance": "true"},
    "agreeing": {"aligner.balance": "true", "aligner.keep_agreement": "true"},
    "balanced-sum": {"aligner": "weighted_sum", "aligner.balance": "true"},
}

SUITES = {
    "aligners": Suite(
        recipe="aligners",
        arms={
            "seen": {"objective.jobs": "perception"},
            "made": {"objective.jobs": "generation"},
            **{arm: {**changes, "train.generation_weight": f"{1 - float(changes['train.perception_weight']):.4g}"} for arm, changes in _SUMS.items()},
            **_RULES,
        },
        front=Front(perception=_OF_SCENES, generation="generation/scenes_kid"),
        claims=(
            *(Claim(figure="both/gain", arm="balanced", against=other) for other in (*_SUMS, *_RULES) if other != "balanced"),
            *(Claim(figure=f"robustness/noise_{figure}", arm="balanced", against="seen") for figure in ("map", "ap50", "miou_foreground")),
        ),
        shown=(
            *("both/gain", "both/hyper_volume", *_OF_SCENES),
            *("robustness/noise_map", "robustness/noise_ap50", "robustness/noise_miou_foreground"),
            *("generation/scenes_kid", "generation/scenes_f1", "likelihood/bits_per_dim"),
        ),
        num_seeds=3,
    ),
    "few-labels": Suite(
        recipe="few-labels",
        arms={
            "taught": {},
            "untaught": {"objective.posterior": "none"},
            "smoothed": {"objective.lesson": "smoothed"},
            "shuffled": {"objective.lesson": "shuffled"},
            "tempered": {"objective.lesson": "tempered"},
            "self-trained": {"objective.jobs": "perception", "objective.posterior": "none", "objective.self_training": "true"},
            "taught-plain": _PLAIN,
            "plain": {**_PLAIN, "objective.posterior": "none"},
            "made": _PLAIN_ALONE,
            "made-from-labels": _PLAIN_ALONE,
        },
        labelled_by={"made-from-labels": "self-trained"},
        claims=(
            *_OF_LABELS,
            *_INTERACTION,
        ),
        shown=_OF_BOTH_JOBS,
    ),
    "few-labels-long": Suite(
        recipe="few-labels-long",
        arms={
            "taught": {},
            "self-trained": {"objective.jobs": "perception", "objective.posterior": "none"},
            "made-from-labels": _PLAIN_ALONE,
            "drawn-from-labels": {"objective.jobs": "generation", "objective.posterior": "none"},
            "tempered": {"objective.lesson": "tempered"},
            "untaught": {"objective.posterior": "none"},
            "taught-plain": _PLAIN,
            "plain": {**_PLAIN, "objective.posterior": "none"},
            "taught-summed": {"aligner": "weighted_sum", "aligner.balance": "true"},
            "smoothed": {"objective.lesson": "smoothed"},
            "shuffled": {"objective.lesson": "shuffled"},
            "made": _PLAIN_ALONE,
        },
        published=_THE_PAPERS,
        labelled_by={"made-from-labels": "self-trained", "drawn-from-labels": "self-trained"},
        claims=(
            *_OF_LABELS,
            Claim(figure="generation/sample_accuracy", arm="taught", against="drawn-from-labels"),
            Claim(figure="generation/class_kid", arm="taught", against="drawn-from-labels", less=True),
            *(Claim(figure="generation/fid", arm="taught", against=other, less=True) for other in ("made", "made-from-labels", "drawn-from-labels")),
            *_INTERACTION,
        ),
        shown=(*_OF_BOTH_JOBS, "generation/fid", "posterior/head_top1", "posterior/combined_top1"),
    ),
    "photos": _OF_ONE_MODEL_ON_PHOTOS,
    "photos-long": replace(_OF_ONE_MODEL_ON_PHOTOS, settings={**_FEW_PHOTOS, "train.stage2_images": "9600", "train.side_by_side": "1"}),
    "cifar10": Suite(
        recipe="own",
        data=_CIFAR10,
        settings={
            "data.labelled_fraction": "0.1",
            "train.stage1_images": "1600",
            "train.stage2_images": "40000",
            "train.side_by_side": "1",
            "objective.posterior": "none",
        },
        arms={
            "joint": {},
            "alone": {"objective.jobs": "perception"},
            "alone-half": {"objective.jobs": "perception", "train.stage2_images": "20000"},
            "self-trained": {"objective.jobs": "perception", "objective.self_training": "true"},
            "joint-self-trained": {"objective.self_training": "true"},
            "made": {"objective.jobs": "generation"},
            "made-from-labels": {"objective.jobs": "generation"},
        },
        labelled_by={"made-from-labels": "self-trained"},
        claims=(
            *(Claim(figure=figure, arm="joint", against=other, less=less) for other in ("alone", "alone-half", "self-trained") for figure, less in _OF_SIGHT),
            *(Claim(figure=figure, arm="joint-self-trained", against="self-trained", less=less) for figure, less in _OF_SIGHT),
            *(Claim(figure="generation/kid", arm="joint", against=other, less=True) for other in ("made", "made-from-labels")),
            *(Claim(figure="generation/sample_accuracy", arm="joint", against=other) for other in ("made", "made-from-labels")),
        ),
        shown=(
            *(figure for figure, _ in _OF_SIGHT),
            *("classification/ece", "generation/kid", "generation/fid", "generation/class_kid", "generation/sample_accuracy", "generation/recall"),
            "likelihood/bits_per_dim",
        ),
    ),
    "photos-screening": Suite(
        recipe="own",
        data=_ETH80,
        settings=_FEW_PHOTOS,
        arms={
            "joint": {},
            "one-stage": {"train.stage1_images": "0", "train.stage2_images": "4000"},
            "coloured": {"objective.augment.colour": "0.3"},
            "zoomed": {"objective.augment.zoom": "1.25"},
            "by-task": {"train.by_task": "true"},
            "unaligned": {"objective.alignment_weight": "0"},
            "summed": {"aligner": "weighted_sum", "aligner.balance": "true"},
            "unbalanced": {"aligner.balance": "false"},
            "attention": {"train.aligned_set": "attention"},
            "unnoised": {"objective.noisy_fraction": "0"},
            "unconditioned": {"objective.pseudo_confidence": "none"},
            "all": {"data.labelled_fraction": "1"},
            "all-alone": {"data.labelled_fraction": "1", "objective.jobs": "perception"},
        },
        claims=(),
        shown=_SHOWN_OF_PHOTOS,
        num_seeds=2,
    ),
    "generation": Suite(
        recipe="all-labels",
        arms={
            "all": {},
            "plain": _PLAIN,
            "alone": _PLAIN_ALONE,
            "alone-drawn": {"objective.jobs": "generation"},
            "aligned": {"model.modulator": "none"},
            "unaligned": {"objective.alignment_weight": "0"},
            "undrawn": {"model.modulator": "semantic", **_AS_IN_THE_PAPER},
            "mean": {"model.modulator": "mean", "objective.alignment_weight": "0", **_AS_IN_THE_PAPER},
            "spread": {"model.modulator": "spread", "objective.alignment_weight": "0", **_AS_IN_THE_PAPER},
        },
        claims=(
            Claim(figure="generation/kid", arm="all", against="plain", less=True, share=0.25),
            *(Claim(figure="generation/kid", arm="all", against=other, less=True) for other in ("alone", "alone-drawn")),
            *(Claim(figure="generation/fid", arm=arm, against=other, less=True) for arm, other in (("all", "plain"), ("alone-drawn", "alone"))),
            Claim(figure="generation/recall", arm="all", against="plain", allowed=0.05),
            Claim(figure="classification/top1", arm="all", against="plain", allowed=0.01),
        ),
        shown=(
            "generation/kid",
            "generation/fid",
            "generation/class_kid",
            "generation/recall",
            "generation/sample_accuracy",
            "classification/top1",
            "classification/ece",
        ),
        num_seeds=3,
    ),
}
"""Every suite by its name."""
