"""Samples: a model that draws from the data itself reaches the floor, guidance is fixed without test images, films end in samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from torch import Tensor

from genrep.config import EvalConfig
from genrep.evaluation.generation import (
    LIKELIHOOD_DRAWS,
    RECALL_TOLERANCE,
    Studio,
    choose_guidance,
    film,
    measure_generation,
    measure_likelihood,
    nearest,
    unlike_samples,
)
from genrep.evaluation.judge import Judge
from genrep.evaluation.perception import see
from genrep.model import GenRep
from genrep.samplers import Euler

SOURCE, VAL, TEST = (rectangles(200, size=16, seed=seed) for seed in (3, 4, 5))
CONFIG = EvalConfig(num_samples=80, num_guidance_samples=80, guidance_grid=(2.0, 4.0), sampler=Euler(num_steps=4))


def painter(*, wrong: bool = False, every: int = 1, guided: float = 0.0) -> GenRep:
    """Copies pictures it was given, below the guidance `guided` one in `every` of another class; under strong guidance one picture per class over and over."""
    model = small_model()

    def generate(label: Tensor, *, guidance: float, **_: Any) -> Tensor:
        turn = torch.arange(len(label)) // 4 if guidance < 4 else torch.zeros_like(label)
        other = (torch.arange(len(label)) % every == 0) & (wrong or guidance < guided)
        return SOURCE.batch(4 * turn + (label + other) % 4).image

    model.generate = generate  # type: ignore[assignment, method-assign]
    return model


def studio(judge: Judge, **changes: Any) -> Studio:
    return Studio(painter(**changes), judge, CONFIG)


def test_samples_from_the_data_reach_the_floor(judge: Judge) -> None:
    found, made = measure_generation(studio(judge), VAL, TEST)
    figures = found.figures
    assert figures["sample_accuracy"] > 0.9 and figures["judge_accuracy"] > 0.9
    assert figures["kid_low"] < figures["kid_real_high"] and figures["recall"] > figures["recall_real"] - 0.1
    assert len(made.image) == figures["n"] == found.tables["n"] == 80 and found.tables["n_recall"] == 80
    assert found.tables["judge"] == judge.name


def test_samples_of_the_wrong_class_are_not_recognised(judge: Judge) -> None:
    assert measure_generation(studio(judge, wrong=True), VAL, TEST)[0].figures["sample_accuracy"] < 0.1


def test_guidance_may_not_cost_recall(judge: Judge) -> None:
    guidance, rows = choose_guidance(studio(judge), VAL)
    recall = {row["guidance"]: row["recall"] for row in rows}
    assert set(recall) == {1.0, 2.0, 4.0}
    assert recall[4.0] < recall[1.0] - RECALL_TOLERANCE
    assert guidance < 4


def test_no_more_guidance_is_taken_than_real_images_are_recognised_by(judge: Judge) -> None:
    """Of three in ten real images the judge says something else than the label: one in five wrong without guidance is well, all are not."""
    hard = replace(VAL, label=torch.where(torch.arange(len(VAL)) % 10 < 3, (VAL.label + 1) % 4, VAL.label))
    grid = replace(CONFIG, guidance_grid=(1.0, 2.0, 3.0))
    for val, every, guided, taken in ((hard, 5, 1.5, 1.0), (VAL, 5, 1.5, 2.0), (hard, 1, 2.5, 3.0)):
        guidance, rows = choose_guidance(replace(studio(judge, every=every, guided=guided), config=grid), val)
        assert guidance == taken and max(row["accuracy"] for row in rows) > 0.9


def test_a_given_guidance_is_taken(judge: Judge) -> None:
    given = replace(studio(judge), config=replace(CONFIG, guidance=3.0))
    assert choose_guidance(given, VAL) == (3.0, [])


def test_unguided_samples_are_measured_beside_guided_ones(judge: Judge) -> None:
    """One in five of them shows another class; strong guidance, a picture per class."""
    model = studio(judge, every=5, guided=1.5)
    unguided, mild, strong = (
        measure_generation(replace(model, config=replace(CONFIG, guidance=guidance)), VAL, TEST)[0].figures for guidance in (1.0, 2.0, 4.0)
    )
    for name, beside in ((name, f"{name}_unguided") for name in ("sample_accuracy", "kid", "fid", "precision", "recall")):
        assert unguided[name] == unguided[beside] == mild[beside] == strong[beside]
    assert mild["sample_accuracy"] > mild["sample_accuracy_unguided"] + 0.1
    assert strong["kid"] > strong["kid_unguided"] and strong["fid"] > strong["fid_unguided"] and strong["recall"] < strong["recall_unguided"]


def test_nearest_finds_the_image_itself(judge: Judge) -> None:
    features, _ = judge(SOURCE.batch(torch.arange(40)).image)
    assert torch.equal(torch.cdist(features, features).gather(1, nearest(features, features, k=1)), torch.cdist(features, features).amin(1, keepdim=True))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_film_ends_in_the_sample(guidance: float) -> None:
    model = small_model()
    labels = torch.arange(4)
    held, expected = film(model, labels, sampler=CONFIG.sampler, guidance=guidance, num_frames=4)
    sample = model.generate(labels, seed=0, sampler=CONFIG.sampler, guidance=guidance)
    assert held.shape == (4, 4, 3, 16, 16)
    torch.testing.assert_close(held[-1], sample, atol=1e-4, rtol=1e-4)
    assert torch.equal(held[-1], expected[-1])


def test_a_sample_depends_on_its_index_alone(judge: Judge) -> None:
    several = Studio(small_model(), judge, replace(CONFIG, batch_size=3)).samples(8, 1.0, seed=0)
    few = Studio(small_model(), judge, CONFIG).samples(4, 1.0, seed=0)
    torch.testing.assert_close(several.image[:4], few.image, atol=1e-4, rtol=1e-4)


def test_floors_are_of_as_many_images(judge: Judge) -> None:
    """FID, recall and coverage of fewer are worse, whatever the images; KID is not."""
    few = measure_generation(studio(judge), VAL.first(40), TEST)[0].figures
    assert {"fid_real", "recall_real", "coverage_real"} <= measure_generation(studio(judge), VAL, TEST)[0].figures.keys()
    assert not {"fid_real", "recall_real", "coverage_real"} & few.keys() and {"kid_real", "fid", "recall", "coverage"} <= few.keys()


def test_classes_in_other_shares_are_worth_a_note() -> None:
    assert list(unlike_samples(TEST)) == []
    (note,) = unlike_samples(TEST.rows((TEST.label == 0) | (torch.arange(200) < 40)))
    assert "equal shares of the classes" in note and "from 12% to 62%" in note


def test_likelihood_is_of_the_first_images_given_their_classes() -> None:
    model, seen = small_model(), see(small_model(), TEST)
    found = measure_likelihood(model, seen.first(5))
    truth = TEST.batch(torch.arange(5))
    bits, _ = model.nll(truth.image, truth.label, num_draws=LIKELIHOOD_DRAWS, index=truth.index).bits_per_dimension()
    figure = found.figures["bits_per_dim"]
    assert found.tables == {"n": 5, "set": TEST.name} and figure == pytest.approx(float(bits.mean()))
    assert found.figures["bits_per_dim_low"] <= figure <= found.figures["bits_per_dim_high"]
    unconditional, _ = model.nll(truth.image, num_draws=LIKELIHOOD_DRAWS, index=truth.index).bits_per_dimension()
    assert figure != pytest.approx(float(unconditional.mean())), "it is told the classes"
