"""Wishes for images: what is kept is kept, what is free is as without them, and what is no wish is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import normal, small_model
from torch import Tensor

from genrep.drawing import Wishes
from genrep.generative import GenerativeModel
from genrep.samplers import Ancestral, Euler
from genrep.types import Batch
from tests.rectangles import rectangles

CLASSES = torch.tensor([0, 1, 2, 3])
EULER = Euler(num_steps=4)


def pictures() -> Tensor:
    """Grey images of the small model's size."""
    return normal(4, 1, 16, 16).clamp(-1, 1).expand(-1, 3, -1, -1)


def wanted() -> Batch:
    return rectangles(4, size=16).batch(torch.arange(4))


@pytest.mark.parametrize("sampler", [EULER, Ancestral(num_steps=4)])
def test_the_less_is_forgotten_of_an_image_the_more_of_it_stays(sampler: Any) -> None:
    model = small_model()
    apart = [(model.generate(CLASSES, wishes=Wishes(image=pictures(), strength=s), sampler=sampler) - pictures()).abs().mean() for s in (0.01, 0.3, 1.0)]
    assert apart[0] < 0.05 and apart[0] < apart[1] < apart[2]
    whole = model.generate(CLASSES, wishes=Wishes(image=pictures()), sampler=sampler)
    torch.testing.assert_close(whole, model.generate(CLASSES, sampler=sampler))


def test_what_is_not_hidden_stays_as_it_is() -> None:
    model, hidden = small_model(), torch.zeros(4, 16, 16)
    hidden[:, 8:] = 1
    made = model.generate(CLASSES, wishes=Wishes(image=pictures(), hidden=hidden), sampler=EULER, guidance=2.0)
    torch.testing.assert_close(made[:, :, :8], pictures()[:, :, :8], rtol=0, atol=1e-6)
    assert (made[:, :, 8:] - pictures()[:, :, 8:]).abs().mean() > 0.1


@pytest.mark.parametrize("modulator", ["semantic", "drawn"])
def test_a_reference_drives_the_denoising_as_far_as_it_should(modulator: str) -> None:
    model = small_model(modulator=modulator)
    free, like, half, other = (
        model.generate(CLASSES, wishes=Wishes(reference=image, likeness=likeness), sampler=EULER, guidance=2.0)
        for image, likeness in ((pictures(), 0.0), (pictures(), 1.0), (pictures(), 0.5), (pictures().flip(0), 1.0))
    )
    torch.testing.assert_close(free, model.generate(CLASSES, sampler=EULER, guidance=2.0))
    assert 1e-4 < (half - free).abs().max() < (like - free).abs().max() and (like - other).abs().max() > 1e-4


def test_semantics_are_drawn_for_every_image_but_not_where_some_of_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, told = small_model(), []
    looped = model.denoiser.looped
    monkeypatch.setattr(model.denoiser, "looped", lambda times, y, **options: told.append(y[:, 4:]) or looped(times, y, **options))
    kept = Wishes(image=pictures(), strength=0.5), Wishes(image=pictures(), hidden=torch.ones(4, 16, 16))
    like = Wishes(reference=pictures())
    for wishes, batch_size in ((Wishes(), 4), (Wishes(), 3), *((wishes, 4) for wishes in (*kept, like))):
        model.generate(CLASSES, wishes=wishes, sampler=EULER, batch_size=batch_size)
    whole, first, rest, *none, reference = told
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    assert not any(sem.any() for sem in none) and torch.cdist(whole, whole).fill_diagonal_(9).min() > 1
    torch.testing.assert_close(reference, model.denoiser.semantics(pictures()[:, :1]))
    model.denoiser.modulator.prior.learnt.zero_()
    model.generate(CLASSES, sampler=EULER)
    assert not told[-1].any()


def test_the_heads_get_to_see_more_of_what_is_wanted() -> None:
    model, found = small_model(), []
    for insistence in (0.0, 0.5):
        wishes = Wishes(wanted=wanted(), insistence=insistence)
        made = model.generate(CLASSES, wishes=wishes, sampler=EULER)
        found.append(model.agreement(model.encode(made), wanted()).detach())
        assert not made.requires_grad
    torch.testing.assert_close(model.generate(CLASSES, wishes=Wishes(wanted=wanted(), insistence=0.0), sampler=EULER), model.generate(CLASSES, sampler=EULER))
    assert found[1].mean() > found[0].mean() + 0.1


def test_agreement_is_of_each_image_by_itself() -> None:
    model, x0 = small_model(), pictures()[:, :1]
    whole = model.agreement(x0, wanted())
    assert whole.shape == (4,) and whole.requires_grad
    for i in range(4):
        torch.testing.assert_close(model.agreement(x0[i : i + 1], wanted().rows(slice(i, i + 1))), whole[i : i + 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wishes", [{"image": True, "strength": 0.5}, {"reference": True}, {"wanted": True}, {"image": True, "hidden": True}])
def test_an_image_depends_on_its_own_wishes_alone(wishes: dict[str, Any]) -> None:
    model, hidden = small_model(), (normal(4, 16, 16, seed=3) > 0).float()
    known = {"image": pictures(), "reference": pictures(), "wanted": wanted(), "hidden": hidden}
    all_wishes = Wishes(**{name: known[name] if value is True else value for name, value in wishes.items()})
    whole = model.generate(CLASSES, wishes=all_wishes, sampler=EULER)
    for batch_size in (1, 3):
        torch.testing.assert_close(model.generate(CLASSES, wishes=all_wishes, sampler=EULER, batch_size=batch_size), whole, rtol=0, atol=2 / 255)
    some = torch.tensor([3, 1])
    torch.testing.assert_close(model.generate(CLASSES[some], wishes=all_wishes.rows(some), index=some, sampler=EULER), whole[some], rtol=0, atol=2 / 255)


@pytest.mark.parametrize("modulator, message", [("none", "has the modulator none"), ("spread", "this sampler draws none; ancestral does")])
def test_a_reference_that_nothing_would_come_of_is_refused(modulator: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_model(modulator=modulator).generate(CLASSES, wishes=Wishes(reference=pictures()), sampler=EULER)


def test_whoever_watches_changes_nothing() -> None:
    model, frames = small_model(), []
    made = model.generate(CLASSES, sampler=EULER, watch=lambda xt, x0_hat: frames.append((xt, x0_hat)))
    torch.testing.assert_close(made, model.generate(CLASSES, sampler=EULER), rtol=0, atol=0)
    assert len(frames) == 4 and all(frame.shape == (4, 3, 16, 16) for pair in frames for frame in pair)
    torch.testing.assert_close(frames[-1][1], made)


def test_a_model_without_heads_cannot_be_pulled() -> None:
    with pytest.raises(ValueError, match="`wanted` needs a model that perceives"):
        GenerativeModel(small_model().config).generate(CLASSES, wishes=Wishes(wanted=wanted()), sampler=EULER)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"strength": 0.0}, r"`strength` must lie in \(0, 1\]; found 0.0"),
        ({"strength": 1.5}, r"`strength` must lie in \(0, 1\]"),
        ({"likeness": -0.1}, r"`likeness` must lie in \[0, 1\]; found -0.1"),
        ({"insistence": -1.0}, "`insistence` must be at least 0"),
        ({"strength": 0.5}, "need an `image`"),
        ({"hidden": torch.zeros(1, 4, 4)}, "need an `image`"),
    ],
)
def test_what_is_no_wish(wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Wishes(**wishes)
