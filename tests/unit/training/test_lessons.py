"""Generation teaches perception: who is taught what, by whom, and that a closed gate costs nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from teachers import CALIBRATION, CONFIG, OPEN, SELF, batch_of, teacher, teaching

from genrep.model import GenRep
from genrep.objective import LESSONS, ObjectiveConfig
from genrep.posteriors import gate
from genrep.posteriors.placebos import PLACEBOS, as_unsure, entropy, shuffled, smoothed
from genrep.randomness import SampleGenerator
from genrep.training.distillation import Teaching
from genrep.training.lessons import Memory, give_lessons
from genrep.training.object_likelihoods import object_scores
from genrep.types import UNLABELLED, Batch, Seen


def forbid(monkeypatch: pytest.MonkeyPatch, model: torch.nn.Module) -> None:
    def called(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(model.denoiser.trunk, "prefix", called)


@pytest.mark.parametrize("state", [Teaching(), teaching(), Teaching(image_gate=OPEN, object_gate=OPEN)])
def test_a_closed_gate_costs_no_evaluation(state: Teaching, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = teacher(state)
    forbid(monkeypatch, closed.model)
    assert give_lessons(closed, batch_of(), torch.arange(6)) is None


def test_nobody_to_teach_costs_no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = teacher(teaching(image=OPEN, objects=OPEN))
    forbid(monkeypatch, opened.model)
    batch = replace(batch_of(), label=torch.full((6,), UNLABELLED), object_labels=torch.full((6, 4), UNLABELLED))
    assert give_lessons(opened, batch, torch.arange(6)) is None


def test_image_lessons_are_the_calibrated_posterior_of_some_labelled_images() -> None:
    opened = teacher(teaching(image=OPEN))
    batch = replace(batch_of(8), label=torch.tensor([UNLABELLED, 1, 2, 3, 0, UNLABELLED, 1, 2]))
    positions = torch.arange(100, 108)
    lessons = give_lessons(opened, batch, positions)
    assert lessons is not None and lessons.image_rows.tolist() == [1, 2, 3]
    torch.testing.assert_close(lessons.image_probs.sum(1), torch.ones(3))
    assert not lessons.image_probs.requires_grad and lessons.image_probs.std() > 1e-3
    rows = torch.tensor([2, 3])
    others = give_lessons(opened, batch.rows(rows), positions[rows])
    torch.testing.assert_close(others.image_probs, lessons.image_probs[1:], rtol=1e-3, atol=1e-4)


def test_posteriors_do_not_know_the_label() -> None:
    opened, batch, positions = teacher(teaching(image=OPEN)), batch_of(), torch.arange(6)
    relabelled = replace(batch, label=torch.where(batch.label >= 0, (batch.label + 1) % 4, -1), classes=batch.classes.roll(1, 1))
    assert torch.equal(give_lessons(opened, relabelled, positions).image_probs, give_lessons(opened, batch, positions).image_probs)


def test_the_posterior_of_an_image_of_one_object_is_that_of_the_object() -> None:
    """Where an image has a label and several objects, no single class is what it is conditioned on."""
    batch = replace(batch_of(), label=torch.tensor([0, UNLABELLED, 2, 3, 0, 1]))
    lessons = give_lessons(teacher(teaching(image=OPEN)), batch, torch.arange(6))
    assert lessons is not None and lessons.image_rows.tolist() == [0, 2]
    (targets,) = lessons.objects
    assert targets.row.tolist() == [0, 2] and targets.slot.tolist() == [0, 0]
    assert targets.candidates.tolist() == [[0, 1, 2, 3]] * 2 and torch.equal(targets.probs, lessons.image_probs)


def test_object_lessons_are_for_images_of_several_objects() -> None:
    opened = teacher(teaching(objects=OPEN))
    batch, positions = batch_of(), torch.arange(50, 56)
    lessons = give_lessons(opened, batch, positions)
    assert lessons is not None and len(lessons.image_rows) == 0
    (targets,) = lessons.objects
    assert set(targets.row.tolist()) <= {3, 4, 5} and (batch.object_labels[targets.row, targets.slot] != UNLABELLED).all()
    torch.testing.assert_close(targets.probs.sum(1), torch.ones(len(targets.row)))
    assert not targets.probs.requires_grad
    rows = torch.tensor([4])
    (alone,) = give_lessons(opened, batch.rows(rows), positions[rows]).objects
    torch.testing.assert_close(alone.probs, targets.probs[targets.row == 4], rtol=1e-3, atol=1e-4)


def unannotated(batch: Batch) -> Batch:
    """The same images, of which nothing is known."""
    num = len(batch.label)
    nothing = {"label": torch.full((num,), UNLABELLED), "object_labels": torch.full((num, 4), UNLABELLED), "classes": torch.zeros(num, 4)}
    return replace(batch, **nothing, has_objects=torch.zeros(num, dtype=torch.bool))


def test_an_unannotated_image_is_taught_where_the_teacher_sees_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = teacher(teaching(image=OPEN))
    batch = Batch.cat([batch_of(2).rows(slice(1)), unannotated(batch_of(6))])
    monkeypatch.setattr(GenRep, "seen", lambda self, features, confidence: Seen(torch.zeros(6, 4), torch.tensor([0, 1, 2, 1, 3, 1])))
    lessons = give_lessons(opened, batch, torch.arange(7), num=3)
    assert lessons is not None and lessons.image_rows.tolist() == [0, 2, 4]
    alone = give_lessons(opened, batch.rows(torch.tensor([0])), torch.arange(1))
    torch.testing.assert_close(alone.image_probs[0], lessons.image_probs[0], rtol=1e-3, atol=1e-4)


@pytest.fixture
def opinions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head is sure of the first and the third of four unannotated images, and of the fourth, which shows two objects."""
    probs = torch.tensor([[0.9, 0.1, 0, 0], [0.7, 0.3, 0, 0], [0, 0.05, 0.05, 0.9], [0, 1, 0, 0]])
    monkeypatch.setattr(GenRep, "results", lambda self, features: {"classification": probs.log()[: len(features.taps[0])]})
    monkeypatch.setattr(GenRep, "seen", lambda self, features, confidence: Seen(torch.zeros(4, 4), torch.tensor([1, 1, 1, 2])))


def four_and_one() -> Batch:
    return Batch.cat([unannotated(batch_of(6)).rows(slice(4)), batch_of(2).rows(slice(1))])


@pytest.mark.usefixtures("opinions")
@pytest.mark.parametrize("state", [Teaching(), teaching()])
def test_the_head_teaches_itself_what_it_is_sure_of_gate_or_no_gate(state: Teaching) -> None:
    alone, batch = teacher(state, replace(SELF, posterior=None)), four_and_one()
    for num in (None, 0):
        lessons = give_lessons(alone, batch, torch.arange(5), num=num)
        assert lessons is not None and lessons.image_rows.tolist() == [0, 2]
        assert lessons.image_probs.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert give_lessons(alone, batch.rows(slice(4, 5)), torch.arange(1)) is None


@pytest.mark.usefixtures("opinions")
def test_beside_self_training_posteriors_are_for_what_the_head_is_unsure_of() -> None:
    """And for unannotated images: of the annotated one the head is told enough."""
    lessons = give_lessons(teacher(teaching(image=OPEN), SELF), four_and_one(), torch.arange(5))
    assert lessons is not None and lessons.image_rows.tolist() == [0, 1, 2]
    assert lessons.image_probs[[0, 2]].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]] and lessons.image_probs[1].max() < 0.99


@pytest.mark.parametrize("lesson", ["posterior", "smoothed"])
def test_of_a_shortlist_the_posterior_divides_what_the_head_gives_to_it(lesson: str) -> None:
    """As sure as it should be. A list of all classes is no shortlist."""
    batch, positions = batch_of(), torch.arange(6)
    state = teaching(image=replace(OPEN, head=0.1, alone=0.3))
    opened = teacher(state, replace(CONFIG, distil_shortlist=2, lesson=lesson))
    lessons = give_lessons(opened, batch, positions)
    rows = lessons.image_rows
    log_head = opened.model.perceive(batch.image[rows]).class_log_probs
    assert log_head is not None
    tempered, classes = (0.3 * log_head).softmax(1), log_head.topk(2).indices
    among, outside = lessons.image_probs.gather(1, classes), torch.ones_like(tempered).scatter(1, classes, 0.0) > 0
    torch.testing.assert_close(lessons.image_probs[outside], tempered[outside], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(among.sum(1), tempered.gather(1, classes).sum(1), rtol=1e-3, atol=1e-4)
    if lesson == "posterior":
        log_lik = opened.image_likelihoods(CONFIG.posterior, batch.rows(rows), positions[rows], bf16=False).gather(1, classes)
        log_posterior = CALIBRATION.log_posterior(log_lik, torch.zeros(4), budget=2, classes=classes)
        expected = state.image_gate.product(log_head.gather(1, classes), log_posterior).exp()
        torch.testing.assert_close(among / among.sum(1, keepdim=True), expected, rtol=1e-3, atol=1e-4)
    every = give_lessons(teacher(state, replace(CONFIG, distil_shortlist=4, lesson=lesson)), batch, positions)
    assert torch.equal(every.image_probs, give_lessons(teacher(state, replace(CONFIG, lesson=lesson)), batch, positions).image_probs)


@pytest.mark.parametrize("lesson", LESSONS)
def test_others_drawn_at_random_make_a_shortlist_of_all_classes(lesson: str) -> None:
    """However many are wanted."""
    batch, positions, state = batch_of(), torch.arange(6), teaching(image=OPEN)
    every = give_lessons(teacher(state, replace(CONFIG, lesson=lesson)), batch, positions)
    listed = give_lessons(teacher(state, replace(CONFIG, lesson=lesson, distil_shortlist=2, distil_random=9)), batch, positions)
    if lesson == "shuffled":  # other places, as unsure
        assert every is not None and listed is not None
        torch.testing.assert_close(entropy(listed.image_probs), entropy(every.image_probs), rtol=1e-3, atol=1e-4)
    else:
        torch.testing.assert_close(listed.image_probs, every.image_probs, rtol=1e-3, atol=1e-4)


def test_a_class_drawn_at_random_stands_for_those_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a loss of either draw, weighed by its sum, is on average that of all classes."""
    monkeypatch.setattr(gate, "DOUBT", 0.0)
    batch, positions, state = batch_of(40), torch.arange(40), teaching(image=OPEN)
    every = give_lessons(teacher(state, replace(CONFIG, distil_images=40)), batch, positions)
    listed = give_lessons(teacher(state, replace(CONFIG, distil_images=40, distil_shortlist=2, distil_random=1)), batch, positions)
    assert every is not None and listed is not None and len(listed.image_rows) > 10
    log_head = teacher(state).model.perceive(batch.image[listed.image_rows]).class_log_probs
    assert log_head is not None
    order = log_head.argsort(1, descending=True)
    whole, part = every.image_probs.gather(1, order), listed.image_probs.gather(1, order)
    torch.testing.assert_close(part.sum(1), torch.ones(len(part)))
    torch.testing.assert_close(part[:, 1] / part[:, 0], whole[:, 1] / whole[:, 0], rtol=1e-2, atol=1e-4)
    drawn = part[:, 2:] > 0
    assert drawn.sum(1).eq(1).all() and drawn.any(0).all()
    torch.testing.assert_close((part[:, 2:] / part[:, :1])[drawn], (2 * whole[:, 2:] / whole[:, :1])[drawn], rtol=1e-2, atol=1e-4)


def test_a_posterior_serves_for_so_many_visits_and_no_more() -> None:
    memory = Memory(5, 4, visits=2)
    memory.keep(torch.tensor([3, 0]), torch.tensor([[0.5, 0.25, 0.25, 0], [0, 0, 0, 1]]))
    for known in ([True, False, True], [True, False, True], [False] * 3):
        found, probs = memory.recall(torch.tensor([0, 1, 3]))
        assert found.tolist() == known and torch.equal(probs.sum(1) > 0, found)
    never = Memory(5, 4, visits=0)
    never.keep(torch.tensor([3]), torch.ones(1, 4) / 4)
    assert not never.recall(torch.arange(5))[0].any() and not never.state_dict()["probs"].numel()


def test_what_is_remembered_teaches_again_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two new ones in each of the first two lessons; then nothing new, and only the second two have a visit left."""
    opened, memory = teacher(teaching(image=OPEN)), Memory(20, 4, visits=2)
    batch, positions, which = batch_of(10).rows(slice(5)), torch.arange(5), torch.tensor([7, 2, 9, 11, 19])
    first = give_lessons(opened, batch, positions, num=2, memory=memory, which=which)
    second = give_lessons(opened, batch, positions, num=2, memory=memory, which=which)
    assert first.image_rows.tolist() == [0, 1] and second.image_rows.tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(second.image_probs[:2], first.image_probs, atol=1e-3, rtol=0)
    forbid(monkeypatch, opened.model)
    third = give_lessons(opened, batch, positions, num=0, memory=memory, which=which)
    torch.testing.assert_close(third.image_probs, second.image_probs, atol=1e-3, rtol=0)
    fourth = give_lessons(opened, batch, positions, num=0, memory=memory, which=which)
    assert fourth.image_rows.tolist() == [2, 3]
    assert give_lessons(opened, batch, positions, num=0, memory=memory, which=which) is None


def test_what_is_taught_is_what_head_and_posterior_know_together() -> None:
    batch, positions = batch_of(), torch.arange(6)
    state = teaching(image=replace(OPEN, head=0.2, alone=0.3), objects=replace(OPEN, head=0.2, alone=0.3))
    opened = teacher(state)
    lessons = give_lessons(opened, batch, positions)
    rows = lessons.image_rows
    log_head = opened.model.perceive(batch.image[rows]).class_log_probs
    log_lik = opened.image_likelihoods(CONFIG.posterior, batch.rows(rows), positions[rows], bf16=False)
    log_posterior = state.calibration.log_posterior(log_lik, torch.zeros(4), budget=2)
    torch.testing.assert_close(lessons.image_probs, state.image_gate.product(log_head, log_posterior).exp(), rtol=1e-3, atol=1e-4)
    tempered = give_lessons(teacher(state, replace(CONFIG, lesson="tempered")), batch, positions)
    torch.testing.assert_close(tempered.image_probs, (0.3 * log_head).softmax(1), rtol=1e-3, atol=1e-4)
    assert (tempered.image_probs - lessons.image_probs).abs().max() > 1e-3
    (_, one), (_, other) = lessons.objects, tempered.objects
    part = batch.rows(torch.arange(6))
    scores = object_scores(opened.model, part)
    among = scores[other.row, other.slot].gather(1, other.candidates)
    torch.testing.assert_close(other.probs, (0.3 * among.log_softmax(1)).softmax(1), rtol=1e-3, atol=1e-4)
    assert torch.equal(one.candidates, other.candidates) and (one.probs - other.probs).abs().max() > 1e-3


@pytest.mark.parametrize("name", PLACEBOS)
def test_placebos_have_the_entropy_of_what_they_stand_in_for(name: str) -> None:
    batch, positions = batch_of(), torch.arange(6)
    true = give_lessons(teacher(teaching(image=OPEN, objects=OPEN)), batch, positions)
    other = give_lessons(teacher(teaching(image=OPEN, objects=OPEN), replace(CONFIG, lesson=name)), batch, positions)
    pairs = [(true.image_probs, other.image_probs), *((a.probs, b.probs) for a, b in zip(true.objects, other.objects, strict=True))]
    for posterior, placebo in pairs:
        torch.testing.assert_close(entropy(placebo), entropy(posterior), rtol=1e-3, atol=1e-4)
        assert (placebo - posterior).abs().max() > 1e-3
    if name == "smoothed":
        assert torch.equal(other.image_probs.argmax(1), batch.label[other.image_rows])


@given(seed=st.integers(0, 10**6), sharpness=st.floats(0, 30))
def test_smoothing_has_any_entropy_asked_for(seed: int, sharpness: float) -> None:
    g = torch.Generator().manual_seed(seed)
    probs, favourite = (sharpness * torch.randn(5, 4, generator=g)).softmax(1), torch.randint(4, (5,), generator=g)
    found = smoothed(probs, favourite)
    for other in (found, as_unsure(torch.rand(5, 4, generator=g).argsort(1).float().log_softmax(1), probs)):
        torch.testing.assert_close(other.sum(1), torch.ones(5))
        torch.testing.assert_close(entropy(other), entropy(probs), rtol=1e-3, atol=1e-3)
    assert (found.gather(1, favourite[:, None]) >= found.amax(1, keepdim=True) - 1e-6).all()


def test_a_shuffled_posterior_says_nothing_of_the_class() -> None:
    probs = torch.tensor([[0.7, 0.2, 0.1]]).expand(3000, 3)
    found = shuffled(probs, SampleGenerator(0, torch.arange(3000), "test"))
    assert torch.equal(found.sort(1).values, probs.sort(1).values)
    assert (found.mean(0) - 1 / 3).abs().max() < 0.03


def test_beside_a_shuffled_posterior_the_head_keeps_what_it_knows() -> None:
    """Where the posterior weighs next to nothing, shuffling it changes next to nothing."""
    batch, positions = batch_of(), torch.arange(6)
    state = teaching(image=replace(OPEN, weight=1e-4, standard_error=1e-5))
    true, other = (give_lessons(teacher(state, replace(CONFIG, lesson=lesson)), batch, positions) for lesson in ("posterior", "shuffled"))
    assert true is not None and other is not None and float(true.image_probs.std(1).min()) > 1e-3
    torch.testing.assert_close(other.image_probs, true.image_probs, rtol=1e-2, atol=1e-3)


def test_lessons_are_known_by_name() -> None:
    assert LESSONS == ("posterior", "smoothed", "shuffled", "tempered")
    with pytest.raises(ValueError, match=r"unknown lesson `smooth`; known: .*\. Did you mean `smoothed`\?"):
        ObjectiveConfig(lesson="smooth")
    with pytest.raises(ValueError, match=r"`pseudo_confidence` must lie between 0 and 1; found 1\.5"):
        ObjectiveConfig(pseudo_confidence=1.5)
    with pytest.raises(ValueError, match="set `pseudo_confidence`"):
        ObjectiveConfig(self_training=True, pseudo_confidence=None)
    with pytest.raises(ValueError, match="`distil_shortlist` must be 0, for all classes, or at least 2; found 1"):
        ObjectiveConfig(distil_shortlist=1)
    for name in ("draws", "variational_steps", "distil_every"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1; found 0"):
            ObjectiveConfig(**{name: 0})
    with pytest.raises(ValueError, match="`distil_random` must be at least 0, and is beside a `distil_shortlist`; found 3 and 0"):
        ObjectiveConfig(distil_random=3)
