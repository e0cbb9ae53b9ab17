"""What the finished model knows of semantics: those of its own teacher, by the classes that generation was told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rectangles import rectangles
from small_models import small_model
from toy_runs import config

from genrep.model import GenRep
from genrep.objective import ObjectiveConfig
from genrep.randomness import SampleGenerator
from genrep.tasks.confidence import Confidence
from genrep.training import RunFolder, prior, train
from genrep.training.distillation import Teacher
from genrep.training.prior import first_visits, known_semantics, learn_prior
from genrep.training.stream import Stream

DATA = rectangles(24, size=16)


def test_semantics_are_the_teachers_and_go_with_their_images_classes() -> None:
    teacher, stream = Teacher(small_model(), ObjectiveConfig(), seed=0), Stream([DATA], seed=0)
    sem, y = known_semantics(teacher, stream, num=24)
    batch, _ = stream.batch(0, 24)
    torch.testing.assert_close(sem, teacher.model.denoiser.semantics(teacher.model.encode(batch.image)))
    assert torch.equal(y, batch.classes)


def test_every_image_comes_once_whatever_the_sizes_of_the_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dealt in turn, 3 images of one set and 24 of another are not each seen in 27 positions."""
    monkeypatch.setattr(prior, "AT_ONCE", 7)
    few = rectangles(3, size=16, seed=1)
    stream, come = Stream([DATA, few], seed=0), []
    assert len(stream.which(torch.arange(27)).unique()) < 20
    for start, is_new in first_visits(stream, 27):
        come += stream.which(torch.arange(start, start + 7))[is_new].tolist()
    assert sorted(come) == list(range(27))
    assert sum(int(is_new.sum()) for _, is_new in first_visits(stream, 10)) == 10
    sem, y = known_semantics(Teacher(small_model(), ObjectiveConfig(), seed=0), stream, num=27)
    assert len(sem) == len(y) == 27 and len(sem.unique(dim=0)) == 27


def test_what_is_drawn_for_a_class_is_what_its_images_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of four classes has one vector of its own."""
    model = small_model()
    model.denoiser.modulator.prior.learnt.zero_()
    of_class = torch.nn.functional.layer_norm(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), (64,))
    label = torch.arange(40) % 4
    monkeypatch.setattr(prior, "known_semantics", lambda *_, num: (of_class[label], torch.eye(4)[label]))
    learn_prior(Teacher(model, replace(ObjectiveConfig(), prior_steps=150), seed=0), Stream([DATA], seed=0), seed=0)
    drawn = model.denoiser.modulator.draw(torch.eye(4)[label], SampleGenerator(0, torch.arange(40), "test"))
    assert torch.equal(torch.cdist(drawn, of_class).argmin(1), label)
    assert (drawn - of_class[label]).square().mean() < 0.2 and not any(p.requires_grad for p in model.denoiser.modulator.prior.parameters())


@pytest.mark.usefixtures("toy_world")
@pytest.mark.parametrize("num_steps", [0, 2])
def test_a_finished_run_draws_unless_it_was_told_not_to_learn(tmp_path: Path, num_steps: int) -> None:
    settings = replace(config(), objective=replace(config().objective, jobs=("generation",), posterior=None, prior_steps=num_steps))
    model = GenRep.from_pretrained(RunFolder(train(settings, tmp_path / "run")).model)
    assert bool(model.denoiser.modulator.prior.learnt) == bool(num_steps)


def test_what_generation_was_told_does_not_depend_on_a_model_completed_before() -> None:
    """A best model's temperature would make the last one's teacher surer, or less sure, of images without labels."""
    model = small_model(tasks=("classification",))
    model.heads["classification"].confidence = Confidence(slope=9.0)
    learn_prior(Teacher(model, replace(ObjectiveConfig(), prior_steps=0), seed=0), Stream([DATA], seed=0), seed=0)
    assert model.heads["classification"].confidence == Confidence()


def test_fewer_than_no_steps_or_no_images_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"`prior_steps` must lie in \[0, inf\); found -1"):
        ObjectiveConfig(prior_steps=-1)
    with pytest.raises(ValueError, match="`prior_images` must be at least 1; found 0"):
        ObjectiveConfig(prior_images=0)
