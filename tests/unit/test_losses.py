"""The two losses: each term against its closed form, who sees what, and where gradients may go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from rectangles import rectangles
from small_models import awake, normal, small_model
from torch import Tensor

from genrep.augmentation import Augmentation
from genrep.denoiser import T_MAX, T_MIN, draw_times, pool
from genrep.lessons import Lessons, Located
from genrep.losses import generation_losses, glimpse_loss, perception_losses, representation_alignment, variational_term
from genrep.model import GenRep
from genrep.objective import ObjectiveConfig
from genrep.parametrization import reverse_kernel
from genrep.randomness import SampleGenerator
from genrep.schedules import SCHEDULES, LinearBetas, RectifiedFlow, Schedule
from genrep.tasks import ObjectTargets
from genrep.training.optimization import make_teacher
from genrep.training.step_losses import require_finite
from genrep.types import Batch

CONFIG = ObjectiveConfig()
every_schedule = pytest.mark.parametrize("schedule", [cls() for cls in SCHEDULES.values()], ids=SCHEDULES)


def batch_of(num: int = 6, num_objects: int = 1) -> Batch:
    return rectangles(num, num_objects=num_objects, size=16).batch(torch.arange(num))


def generator(num: int = 6) -> SampleGenerator:
    return SampleGenerator(0, torch.arange(num), "test")


def generation(model: GenRep, batch: Batch, config: ObjectiveConfig = CONFIG, at: SampleGenerator | None = None) -> dict[str, Tensor]:
    return model.answer(generation_losses(model, make_teacher(awake(small_model(), 5)), batch, config=config, generator=at or generator(len(batch))))


def perception(model: GenRep, batch: Batch, config: ObjectiveConfig = CONFIG, lessons: Lessons | None = None) -> dict[str, Tensor]:
    return model.answer(perception_losses(model, batch, config=config, generator=generator(len(batch)), lessons=lessons))


def test_where_a_task_learns_from_glimpses_all_images_count_alike() -> None:
    """Of 6 images and 18 glimpses, what both teach is a quarter of the one's loss and three quarters of the other's."""
    model, batch = small_model(proposals=4), batch_of()
    alone = model.answer(perception_losses(model, batch, config=CONFIG, generator=generator()))
    beside = model.answer(perception_losses(model, batch, config=CONFIG, generator=generator(), glimpses=18))
    torch.testing.assert_close(alone["task"] - beside["task"], 0.75 * (alone["detection"] + alone["segmentation"]))
    more = batch_of(18)
    torch.testing.assert_close(glimpse_loss(model, more, config=CONFIG, beside=6), 0.75 * glimpse_loss(model, more, config=CONFIG))


class Spy:
    """Keeps what a method of a module was called with, and what it returned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.result: Any = None
        method = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            self.arguments, self.result = arguments, method(*arguments)
            return self.result

        monkeypatch.setattr(owner, name, call)


# times


def test_times_fall_into_equal_quantile_ranges_of_the_logit_normal() -> None:
    places = (torch.arange(2000) + 0.5) / 2000
    for num in (1, 3):
        t = draw_times(places[:, None].expand(-1, num))
        normal_cdf = torch.special.ndtr(t.logit().double())
        expected = (torch.arange(num) + places[:, None]).double() / num
        torch.testing.assert_close(normal_cdf, expected, rtol=0, atol=1e-3)
    extremes = draw_times(torch.tensor([[1e-9, 1 - 1e-7]]))
    assert extremes.min() >= T_MIN and extremes.max() <= T_MAX


# the terms of generation


@pytest.mark.parametrize(("prediction", "schedule"), [("u", RectifiedFlow()), ("eps", LinearBetas())])
def test_denoising_error_is_that_of_u_or_of_the_noise_that_is_predicted(prediction: str, schedule: Schedule) -> None:
    model, batch = small_model(modulator="none", prediction=prediction, schedule=schedule), batch_of()
    found = generation(model, batch, replace(CONFIG, draws=2, null_fraction=0.0))["denoise"]
    again = generator()
    draw = again.uniform(3, 2)
    t, eps, x0 = draw_times(draw[:, 0]), again.normal(2, 1, 16, 16), batch.image[:, :1]
    errors = []
    for i in range(2):
        xt = model.schedule.noised(x0, t[:, i], eps[:, i])
        says = model.denoiser.trunk.decode(model.denoiser.trunk(xt, t[:, i], batch.classes))
        errors.append((says - (eps[:, i] - x0 if prediction == "u" else eps[:, i])).square().mean())
    torch.testing.assert_close(found, torch.stack(errors).mean(), rtol=1e-4, atol=1e-6)


def test_terms_add_up_with_their_weights() -> None:
    terms = generation(small_model(), batch_of(), replace(CONFIG, alignment_weight=0.3, variational_weight=0.2))
    torch.testing.assert_close(terms["generation"], terms["denoise"] + 0.3 * terms["alignment"] + 0.2 * terms["variational"])
    assert generation(small_model(), batch_of(), replace(CONFIG, alignment_weight=0.0))["alignment"] == 0


def test_a_rows_loss_does_not_depend_on_the_others() -> None:
    """The randomness belongs to the position, so the batch's loss is the mean of its rows' losses."""
    model, batch = small_model(), batch_of()
    whole, index = generation(model, batch), torch.arange(6)
    each = [generation(model, batch.rows(index[i : i + 1]), at=SampleGenerator(0, index[i : i + 1], "test")) for i in range(6)]
    for name, value in whole.items():
        torch.testing.assert_close(value, torch.stack([terms[name] for terms in each]).mean(), rtol=1e-4, atol=1e-5)
    backwards = generation(model, batch.rows(index.flip(0)), at=SampleGenerator(0, index.flip(0), "test"))
    torch.testing.assert_close(backwards["generation"], whole["generation"], rtol=1e-4, atol=1e-5)


@every_schedule
def test_variational_term_is_the_divergence_of_the_two_kernels(schedule: Schedule) -> None:
    model, t = small_model(schedule=schedule), torch.tensor([0.1, 0.4, 0.9])
    x0, x0_hat, scale = normal(3, 1, 16, 16), normal(3, 1, 16, 16) * 0.2 + normal(3, 1, 16, 16), torch.tensor([-0.5, 0.0, 0.6])
    found = variational_term(model, (x0 - x0_hat).square(), t, scale, num_steps=20)
    kernel = reverse_kernel(schedule, t, torch.maximum(t - 1 / 20, t / 2))
    xt, std = normal(3, 1, 16, 16, seed=1), kernel.var.sqrt()[:, None, None, None]
    exact = torch.distributions.Normal(kernel.mean(xt, x0), std)
    learnt = torch.distributions.Normal(kernel.mean(xt, x0_hat), std * scale.exp()[:, None, None, None])
    torch.testing.assert_close(found, torch.distributions.kl_divergence(exact, learnt).mean((1, 2, 3)), rtol=1e-3, atol=1e-4)


def test_variational_term_is_least_at_the_analytic_spread_and_trains_nothing_else() -> None:
    model, t = small_model(), torch.tensor([0.05, 0.3, 0.95])
    error2 = normal(3, 1, 16, 16).square()
    kernel = reverse_kernel(model.schedule, t, torch.maximum(t - 0.02, t / 2))
    ratio = 1 + (kernel.of_x0**2 / kernel.var * error2.mean((1, 2, 3))).clamp(max=100)
    best = (0.5 * ratio.log()).requires_grad_()
    at_best = variational_term(model, error2, t, best, num_steps=50)
    at_best.sum().backward()
    torch.testing.assert_close(best.grad, torch.zeros(3), rtol=0, atol=1e-5)
    for step in (-0.1, 0.1):
        assert (variational_term(model, error2, t, best + step, num_steps=50) > at_best).all()


def test_variational_term_trains_the_spread_and_nothing_else() -> None:
    model = small_model()
    generation(model, batch_of())["variational"].backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    assert touched and all(name.startswith("denoiser.modulator.spread_") for name in touched)


def test_representation_alignment_is_one_minus_the_cosine() -> None:
    model = small_model()
    early = normal(2, 16, 4, 4)
    target = model.project(early).detach().transpose(1, 2).unflatten(2, (4, 4))
    for factor, expected in ((3.0, 0.0), (-0.2, 2.0)):
        assert float(representation_alignment(model, early, factor * target).detach()) == pytest.approx(expected, abs=1e-5)
    assert 0 <= representation_alignment(model, early, normal(2, 16, 4, 4, seed=1)) <= 2


def test_no_gradient_reaches_the_teacher() -> None:
    model, teacher = small_model(), small_model(seed=1)
    model.answer(generation_losses(model, teacher, batch_of(), config=CONFIG, generator=generator()))["generation"].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(model.denoiser.get_parameter(name).grad is not None for name in ("modulator.mean", "modulator.embed.weight", "trunk.embedding.classes"))


# what noised draws are told


def test_shares_of_conditions_and_semantics(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the draws see no classes; .8 the clean image's semantics, of which the trunk is told, too, .1 their own, the rest none."""
    num, model, teacher = 500, small_model(), make_teacher(small_model(seed=3))
    trunk, modulated = Spy(monkeypatch, model.denoiser.trunk, "forward"), Spy(monkeypatch, model.denoiser, "modulate")
    batch = batch_of(num)
    with torch.no_grad():
        model.answer(generation_losses(model, teacher, batch, config=CONFIG, generator=generator(num)))
        clean = model.denoiser.modulator.semantics(teacher.clean_features(model.encode(batch.image)).taps[-1].mean((-2, -1)))
        own = model.denoiser.modulator.semantics(pool(trunk.result.features))
    _, t, y = trunk.arguments
    told, sem = batch.classes.repeat_interleave(3, 0), modulated.arguments[3]
    y, beside = y.split([4, 64], dim=1)
    none = {"y": ~y.any(1), "sem": ~sem.any(1)}
    assert torch.equal(y[~none["y"]], told[~none["y"]])
    of_clean = (sem - clean.repeat_interleave(3, 0)).abs().amax(1) < 1e-5
    of_own = (sem - own).abs().amax(1) < 1e-5
    assert (of_clean.int() + of_own.int() + none["sem"].int() == 1).all()
    assert torch.equal(beside, sem * of_clean[:, None])
    for where, share in ((none["y"], 0.1), (of_clean, 0.8), (of_own, 0.1), (none["sem"], 0.1)):
        spread = (share * (1 - share) / (3 * num)) ** 0.5
        assert abs(float(where.float().mean()) - share) < 4 * spread
        assert abs(float(t[where].mean()) - 0.5) < 4 * 0.21 / float(where.sum()) ** 0.5


# perception


def test_most_of_perceptions_images_are_clean_and_the_others_lightly_noised(monkeypatch: pytest.MonkeyPatch) -> None:
    model, num = small_model(), 400
    trunk = Spy(monkeypatch, model.denoiser.trunk, "forward")
    batch = batch_of(num)
    with torch.no_grad():
        perception(model, batch)
    xt, t, y = trunk.arguments
    noisy = t > 0
    assert abs(float(noisy.float().mean()) - CONFIG.noisy_fraction) < 0.1 and t.max() <= CONFIG.noisy_t_max
    assert y is None and torch.equal(xt[~noisy], batch.image[~noisy, :1]) and (xt[noisy] != batch.image[noisy, :1]).any()


def test_a_heads_pass_sees_neither_label_nor_semantics() -> None:
    """Another condition, and another modulator, change no bit of what perception computes from the image."""
    model, batch = small_model(), batch_of(num_objects=2)
    before = perception(model, batch)
    awake(model.denoiser.modulator, seed=4)
    after = perception(model, replace(batch, classes=1 - batch.classes, index=batch.index + 1))
    assert all(torch.equal(before[name], after[name]) for name in before)
    after["perception"].backward()
    embedding = model.denoiser.trunk.embedding
    assert embedding.null.grad.any()
    assert not any(p.grad is not None and p.grad.any() for p in (embedding.classes, embedding.set, *model.denoiser.modulator.parameters()))


def test_task_is_the_weighted_sum_of_the_heads() -> None:
    config = replace(CONFIG, classification_weight=0.5, detection_weight=2.0, segmentation_weight=3.0)
    terms = perception(small_model(), batch_of(), config)
    torch.testing.assert_close(terms["task"], 0.5 * terms["classification"] + 2 * terms["detection"] + 3 * terms["segmentation"])
    assert terms["distil"] == 0 and terms["perception"] == terms["task"]


def lessons(batch: Batch, *, images: bool = True, objects: bool = True) -> Lessons:
    targets = ObjectTargets(torch.tensor([1, 2]), torch.tensor([0, 1]), torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
    probs = normal(2, batch.classes.shape[1]).softmax(1)
    rows = torch.tensor([0, 3]) if images else torch.zeros(0, dtype=torch.long)
    return Lessons(rows, probs[: len(rows)], (targets,) if objects else ())


def test_lessons_of_images_and_of_objects_are_added() -> None:
    model, batch = small_model(), batch_of(num_objects=2)
    plain = perception(model, batch)

    def distil(config: ObjectiveConfig = CONFIG, **kinds: bool) -> Tensor:
        found = perception(model, batch, config, lessons(batch, **kinds))
        torch.testing.assert_close(found["perception"], plain["task"] + found["distil"])
        return found["distil"]

    of_images, of_objects = distil(objects=False), distil(images=False)
    assert of_images > 0 and of_objects > 0
    torch.testing.assert_close(distil(), of_images + of_objects)
    torch.testing.assert_close(distil(replace(CONFIG, distil_weight=2.0)), 2 * (of_images + of_objects))


def test_where_the_teacher_finds_objects_nothing_but_their_lessons_is_learnt() -> None:
    """They are no annotations; and where they lie is moved with the image."""
    model, batch = small_model(), batch_of(num_objects=2)
    rows, config = torch.tensor([False, True, True, True, False, True]), replace(CONFIG, augment=Augmentation(shift_px=2, mirror=True))
    taught = lessons(batch, images=False)
    told = perception(model, batch.without(rows), config, replace(taught, located=Located(batch, rows)))
    torch.testing.assert_close(told["task"], perception(model, batch.without(rows), config)["task"])
    torch.testing.assert_close(told["distil"], perception(model, batch, config, taught)["distil"])
    assert told["distil"] > 0


# configuration and errors


def test_non_finite_terms_are_named() -> None:
    require_finite({"denoise": torch.tensor(1.0), "alignment": torch.tensor(-3.0)}, step=3)
    for value in (torch.nan, torch.inf):
        with pytest.raises(FloatingPointError, match=rf"loss term `alignment` is {value} at step 7; the weights are untouched"):
            require_finite({"denoise": torch.tensor(1.0), "alignment": torch.tensor(value)}, step=7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"jobs": ()}, "`jobs` must be one or both of perception, generation"),
        ({"jobs": ("perception", "dreaming")}, "`jobs` must be one or both of perception, generation; found .*dreaming"),
        ({"sem_clean": 0.6, "sem_own": 0.5}, r"`sem_clean` \+ `sem_own` must lie in \[0, 1\]; found 1.1"),
    ],
)
def test_impossible_objectives_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**fields)
