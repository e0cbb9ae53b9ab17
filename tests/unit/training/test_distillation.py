"""The posterior is calibrated on labels, and judged by others, before it may teach."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rectangles import rectangles
from small_models import small_config, small_model
from teachers import CONFIG, OPEN, batch_of, teacher, teaching
from torch import Tensor

from genrep.model import GenRep
from genrep.posteriors import DenoisingGap, PosteriorEstimator, ReverseChain, VariationalBound
from genrep.posteriors.calibration import Calibration, fit_calibration
from genrep.posteriors.gate import Gate, fit_gate
from genrep.training import distillation
from genrep.training.distillation import Teacher, Teaching, cross_fitted
from genrep.training.lessons import give_lessons
from genrep.training.object_likelihoods import ObjectLikelihoods, object_log_likelihoods, object_scores
from genrep.training.optimization import make_teacher
from genrep.types import UNLABELLED, Batch


def test_what_teaches_is_calibrated_and_has_an_open_gate() -> None:
    for state, teaches in (
        (Teaching(), (False, False)),
        (Teaching(image_gate=OPEN, object_gate=OPEN), (False, False)),
        (teaching(), (False, False)),
        (teaching(image=OPEN), (True, False)),
        (teaching(objects=OPEN), (False, True)),
    ):
        assert (state.teaches_images, state.teaches_objects) == teaches


@pytest.mark.parametrize("state", [Teaching(), teaching(), teaching(image=OPEN, objects=OPEN)])
def test_what_was_fitted_comes_back_from_json(state: Teaching) -> None:
    assert Teaching.from_dict(json.loads(json.dumps(state.to_dict(), allow_nan=False))) == state


Likelihoods = Callable[..., tuple[ObjectLikelihoods, Tensor]]


@pytest.fixture
def likelihoods(monkeypatch: pytest.MonkeyPatch) -> Likelihoods:
    """`object_log_likelihoods` with an estimator that prefers the second candidate everywhere, and what it was asked about."""
    asked = []

    def maps(self: object, denoise: object, x0: Tensor, candidates: Tensor, **_: object) -> Tensor:
        asked.append(candidates)
        return torch.zeros(*candidates.shape[:2], *x0.shape[2:]).index_fill(1, torch.tensor([1]), 1.0)

    monkeypatch.setattr(DenoisingGap, "maps", maps)

    def call(batch: Batch, scores: Tensor, num_candidates: int = 2) -> tuple[ObjectLikelihoods, Tensor]:
        options: dict[str, Any] = {"estimator": DenoisingGap(), "index": batch.index, "seed": 0, "num_candidates": num_candidates}
        return object_log_likelihoods(small_model(), batch, scores, **options), asked[-1]

    return call


def test_candidates_are_the_heads_favourites_with_the_rest_as_it_is(likelihoods: Likelihoods) -> None:
    """Objects whose class is not among them are left out: adding it would leak the label."""
    batch = rectangles(4, num_objects=3, size=16).batch(torch.arange(4))
    scores = torch.tensor([4.0, 3.0, 2.0, 1.0]).log_softmax(0).expand(4, 4, 4)
    found, held = likelihoods(batch, scores)
    assert found.candidates.tolist() == [[0, 1]] * len(found.row)
    expected = [(r, s) for r in range(4) for s in range(3) if batch.object_labels[r, s] in (0, 1)]
    assert list(zip(found.row.tolist(), found.slot.tolist(), strict=True)) == expected
    label = batch.object_labels[found.row, found.slot]
    assert torch.equal(found.truth, label)
    for r, (row, own) in enumerate(zip(found.row, label, strict=True)):
        for candidate in (0, 1):
            others = [int(c) for c in batch.object_labels[row] if c >= 0]
            others[others.index(int(own))] = candidate
            assert held[r, candidate].tolist() == [others.count(k) for k in range(4)]
    pixels = torch.stack([(batch.instance_mask[r] == s + 1).sum() for r, s in zip(found.row, found.slot, strict=True)]).float()
    assert torch.equal(found.area, pixels)
    torch.testing.assert_close(found.log_lik, torch.stack([torch.zeros_like(pixels), pixels], dim=1))


def test_another_object_of_the_class_stays(likelihoods: Likelihoods) -> None:
    batch = rectangles(1, num_objects=2, size=16).batch(torch.arange(1))
    batch = replace(batch, object_labels=torch.tensor([[2, 2, -1, -1]]), classes=torch.tensor([[0.0, 0.0, 2.0, 0.0]]))
    found, held = likelihoods(batch, torch.tensor([0.0, 1.0, 4.0, 3.0]).expand(1, 4, 4))
    assert found.candidates.tolist() == [[2, 3], [2, 3]]
    assert held.tolist() == [[[0, 0, 2, 0], [0, 0, 1, 1]]] * 2


def test_there_are_no_more_candidates_than_classes(likelihoods: Likelihoods) -> None:
    found, _ = likelihoods(batch_of(), torch.zeros(6, 4, 4), num_candidates=9)
    assert found.candidates.shape == (3 + 9, 4)


def test_the_heads_opinion_of_an_object_is_the_mean_over_its_tokens() -> None:
    model, batch = small_model(), batch_of()
    head = model.heads["detection"]
    scores = object_scores(model, batch)
    with torch.no_grad():
        output, slot = head(model.clean_features(model.encode(batch.image))), head.match(batch)
    for row in range(6):
        for which in torch.nonzero(batch.object_labels[row] >= 0).squeeze(1):
            torch.testing.assert_close(scores[row, which], output.class_logits[row][slot[row] == which].mean(0).log_softmax(0))


# fitting


@given(st.lists(st.integers(0, 6), max_size=20).map(sorted), st.integers(0, 3))
def test_no_image_is_judged_by_a_calibration_that_has_seen_it(row: list[int], never: int) -> None:
    where, seen = torch.tensor(row, dtype=torch.int64), []

    def posterior(known: Tensor, rows: Tensor) -> Tensor:
        assert not set(where[known].tolist()) & set(where[rows].tolist())
        seen.append(where[known].tolist())
        return rows[:, None].double()

    judged, found = cross_fitted(where, 7, lambda rows: rows, posterior, never=never)
    assert torch.equal(judged.double(), found.flatten())
    cut = never + (7 - never + 1) // 2
    if any(never <= image < cut for image in row) and any(image >= cut for image in row):
        assert [row[i] for i in judged.tolist()] == [image for image in row if image >= never]
        assert all([image for image in known if image < never] == [image for image in row if image < never] for known in seen)
    else:
        assert not len(judged) and not seen


@pytest.mark.parametrize("knows", [True, False])
def test_the_gate_opens_for_knowledge_and_not_for_noise(knows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = teacher()
    val = batch_of(160)
    noise = torch.randn(160, 4, generator=torch.Generator().manual_seed(0))

    def log_lik(*_: object, **__: object) -> Tensor:
        return 3.0 * torch.eye(4)[val.label[:80]] * knows + noise[:80]

    monkeypatch.setattr(type(fitted.model), "log_likelihood", log_lik)
    fitted.model.heads.pop("detection")
    (event,) = fitted.fit(val)
    assert (event["kind"], event["num"]) == ("image", 40) and event["teaches"] == fitted.teaching.teaches_images
    assert (event["teaches"] and event["posterior_accuracy"] > 0.8) if knows else not event["teaches"]
    assert fitted.model.calibration == fitted.teaching.calibration is not None
    json.dumps(event, allow_nan=False)


def test_both_kinds_are_fitted_on_what_is_labelled() -> None:
    fitted = teacher()
    images, objects = fitted.fit(batch_of(40))
    assert (images["kind"], images["num"], objects["kind"]) == ("image", 10, "object")
    assert fitted.model.object_calibration == fitted.teaching.object_calibration is not None
    (event,) = teacher().fit(replace(batch_of(40), label=torch.full((40,), UNLABELLED)))
    assert event["kind"] == "object"


@pytest.mark.parametrize("num", [2, 3])
def test_too_few_images_leave_the_gate_closed(num: int) -> None:
    """Of two the pilot run sees one, and none is left to be judged by another."""
    asked, val = teacher(), batch_of(20)
    few = val.rows(torch.nonzero(val.single).squeeze(1)[:num])
    event = next(event for event in asked.fit(few) if event["kind"] == "image")
    assert event["num"] == 2 * (num > 2) and not event["teaches"] and not asked.teaching.teaches_images
    json.dumps(asked.calibrate(few), allow_nan=False)
    assert asked.model.posterior(few.image).shape == (num, 4)


def test_too_few_objects_leave_the_gate_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them on its shortlist, say."""
    fitted = teacher()
    batch = rectangles(3, num_objects=2, size=16).batch(torch.arange(3))
    outside = 10.0 * (1 - batch.classes)[:, None].expand(-1, 4, -1)
    monkeypatch.setattr(distillation, "object_scores", lambda model, val: outside)
    fitted.config = replace(CONFIG, distil_candidates=2)
    (event,) = fitted.fit(batch)
    assert (event["num"], event["teaches"]) == (0, False) and not fitted.teaching.teaches_objects
    json.dumps([event, fitted.teaching.to_dict()], allow_nan=False)


def test_the_gate_judges_the_head_that_users_get() -> None:
    """With what detection offers it: a head that is judged without looks as if it had something to learn."""
    val = batch_of(40)
    model = GenRep(replace(small_config(), proposals=3))
    asked = Teacher(make_teacher(model), CONFIG, seed=0)
    found = next(event for event in asked.fit(val) if event["kind"] == "image")
    single = val.rows(val.single)
    log_probs = asked.model.perceive(single.image).class_log_probs
    judged = slice(len(single) // 2, None)  # the first have seen the pilot run
    assert log_probs is not None and found["num"] == len(single) // 2
    assert found["head_accuracy"] == pytest.approx(float((log_probs[judged].argmax(1) == single.label[judged]).double().mean()))
    estimator = asked.teaching.calibration.tuned(CONFIG.posterior)
    log_lik = asked.model.log_likelihood(single.image, estimator=estimator, seed=0, index=single.index)
    by_other = []
    for known, mine in (([*range(10), *range(15, 20)], slice(10, 15)), (range(15), slice(15, 20))):
        rows = torch.tensor(list(known))
        calibration = fit_calibration({2: log_lik[rows]}, single.label[rows], torch.zeros(4))
        by_other.append(calibration.log_posterior(log_lik[mine], torch.zeros(4), budget=2))
    expected = fit_gate(log_probs[judged], torch.cat(by_other), single.label[judged])
    assert found["weight"] == pytest.approx(expected.weight, rel=1e-3) and abs(expected.weight) > 1e-3
    assert found["head_weight"] == pytest.approx(expected.head, rel=1e-3)
    assert found["head_alone"] == pytest.approx(expected.alone, rel=1e-3)


def test_a_pilot_run_on_validation_images_decides_how_to_draw_and_weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, val = teacher(), batch_of(40)
    asked.fit(val)
    found = asked.teaching.calibration
    assert all(parts is not None and min(parts) > 0 and len(set(parts)) > 1 for parts in (found.allocation, found.weights))
    assert Calibration.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    used: list[DenoisingGap] = []
    monkeypatch.setattr(asked.model, "log_likelihood", lambda image, classes=None, *, estimator, **_: used.append(estimator) or torch.zeros(len(image), 4))
    asked.teaching = replace(asked.teaching, image_gate=OPEN)
    give_lessons(asked, batch_of(), torch.arange(6))
    asked.model.posterior(val.image[:2], budget=6)
    assert used == [found.tuned(CONFIG.posterior), replace(found.tuned(CONFIG.posterior), budget=6)]
    assert used[0] == replace(CONFIG.posterior, allocation=found.allocation, weights=found.weights)


@pytest.mark.parametrize(
    "estimator", [DenoisingGap(budget=2, logsnr_min=-2.0, logsnr_max=2.0, noise="independent"), ReverseChain(budget=6, burn_in=2), VariationalBound(budget=4)]
)
def test_a_calibrated_model_asks_what_it_was_calibrated_for(estimator: PosteriorEstimator, tmp_path: Path) -> None:
    """As a folder keeps it; of a gap twice the evaluations."""
    asked, val = teacher(config=replace(CONFIG, posterior=estimator)), batch_of(20)
    asked.calibrate(val)
    times = 2 if isinstance(estimator, DenoisingGap) else 1
    expected = asked.teaching.calibration.tuned(replace(estimator, budget=times * estimator.budget))
    assert (expected != replace(estimator, budget=times * estimator.budget)) == (times == 2), "a gap is told where to draw"
    asked.model.save_pretrained(tmp_path / "model")
    model = GenRep.from_pretrained(tmp_path / "model")
    assert model.calibration.tuned(model.estimator) == expected and model.estimator == asked.model.estimator
    assert torch.equal(model.posterior(val.image[:2]), model.posterior(val.image[:2], estimator=expected))


def test_without_a_pilot_run_draws_lie_and_count_as_configured() -> None:
    for options in ({"allocation": None, "weights": None}, {"allocation": (1.0, 2.0), "weights": (3.0, 1.0)}):
        asked = teacher(config=replace(CONFIG, pilot_images=0, posterior=replace(CONFIG.posterior, **options)))
        asked.fit(batch_of(8))
        found = asked.teaching.calibration
        assert {name: getattr(found, name) for name in options} == options


def test_a_pilot_run_finds_only_what_the_configuration_leaves_open() -> None:
    weights, allocation = (3.0, 1.0), (1.0, 2.0)
    for fixed in ({"weights": weights}, {"allocation": allocation}, {"weights": weights, "allocation": allocation}):
        asked = teacher(config=replace(CONFIG, posterior=replace(CONFIG.posterior, **fixed)))
        asked.fit(batch_of(20))
        found = asked.teaching.calibration
        assert all(getattr(found, name) == parts for name, parts in fixed.items()) and found.weights and found.allocation


def test_a_finished_model_knows_what_a_budget_is_worth() -> None:
    val, asked = batch_of(40), teacher()
    nothing = replace(val, label=torch.full((40,), UNLABELLED), has_objects=torch.zeros(40, dtype=torch.bool))
    assert asked.calibrate(nothing) == [] and asked.model.calibration is None
    *heads, event = asked.calibrate(val)
    assert {head["task"] for head in heads} == {"detection", "classification"} and event["event"] == "calibration"
    assert event["num"] == 20 and asked.model.calibration is asked.teaching.calibration and asked.model.calibration.noisiness > 0
    gate = asked.model.gate
    assert gate is asked.teaching.image_gate and gate is not None and (event["weight"], event["head_weight"]) == (gate.weight, gate.head)


def test_a_finished_model_combines_its_two_sides() -> None:
    """By the product of powers that the gate fitted, with the doubted posterior; other powers give another answer."""
    val, asked = batch_of(40), teacher()
    asked.calibrate(val)
    model, image = asked.model, val.image[:6]
    posterior, head = model.posterior(image, budget=6), model.perceive(image).class_log_probs
    model.gate = Gate(weight=0.7, standard_error=0.1, head=0.4)
    expected = head.exp() ** 0.4 * (0.95 * posterior.exp() + 0.05 / 4) ** 0.7
    torch.testing.assert_close(model.combined(image, budget=6).exp(), expected / expected.sum(1, keepdim=True))
    model.gate = Gate(weight=0.0, standard_error=0.1)
    torch.testing.assert_close(model.combined(image, budget=6), head)
