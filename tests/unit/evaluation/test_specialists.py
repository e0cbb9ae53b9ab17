"""Networks for one task each: they learn, they are measured as ours is, and a figure says what was compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rectangles import rectangles
from torch import Tensor, nn
from toy_runs import OBJECTS, config, load_rectangles

from genrep.boxes import to_xyxy_px
from genrep.evaluation import specialists_bench
from genrep.evaluation.specialists import SPECIALISTS, Classifier
from genrep.evaluation.specialists_bench import specialist_figures, taught
from genrep.storage import save_tensors, write_folder
from genrep.types import UNLABELLED, Batch, Detections, Perception

MakeRun = Callable[..., Path]
EVERY = [(task, name) for task, of in SPECIALISTS.items() for name in of]


def batch_of(num: int = 8) -> Batch:
    return rectangles(num, size=32, colour=True).batch(torch.arange(num))


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_each_learns_its_task_from_pictures_and_says_what_it_sees(task: str, name: str) -> None:
    """A few steps on one batch lower its loss; what it sees has the form in which all is measured."""
    torch.manual_seed(0)
    one, batch = SPECIALISTS[task][name](4, (32, 32)), batch_of()
    optimizer = torch.optim.AdamW(one.network.parameters(), lr=1e-3)
    losses = []
    one.network.train()
    for _ in range(6):
        loss = one.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert bool(one.known(batch).all())
    one.network.eval()
    with torch.no_grad():
        found = one.see(batch.image)
    if task == "classification":
        assert found.class_log_probs is not None and found.class_log_probs.shape == (8, 4)
        torch.testing.assert_close(found.class_log_probs.exp().sum(1), torch.ones(8))
    elif task == "segmentation":
        assert found.semantic_mask is not None and found.semantic_mask.shape == (8, 32, 32) and found.semantic_mask.max() <= 4
    else:
        assert found.detections is not None and len(found.detections) == 8
        assert all(bool(((each.labels >= 0) & (each.labels < 4)).all()) for each in found.detections)


def test_what_is_not_annotated_teaches_nobody() -> None:
    batch = batch_of(4)
    hidden = replace(
        batch,
        label=batch.label.index_fill(0, torch.tensor([0]), UNLABELLED),
        has_objects=torch.tensor([True, False, True, True]),
        semantic_mask=batch.semantic_mask.index_fill(0, torch.tensor([2]), 255),
    )
    for task, missing in (("classification", 0), ("detection", 1), ("segmentation", 2)):
        for make in SPECIALISTS[task].values():
            assert torch.nonzero(~make(4, (32, 32)).known(hidden)).flatten().tolist() == [missing]


def test_what_is_taught_is_learnt_of_as_many_images_as_the_run_saw_and_from_annotated_ones_alone() -> None:
    """Of the labelled half of the images; the labels of the other half are wrong, and hidden."""
    data = rectangles(64, size=16, colour=True)
    known = torch.arange(64) < 32
    shown = replace(data, label=torch.where(known, data.label, UNLABELLED))
    base = config()
    settings = replace(base, train=replace(base.train, stage1_images=320, stage2_images=640))
    seen: list[Tensor] = []

    class Linear(Classifier):
        def loss(self, batch: Batch) -> Tensor:
            seen.append(batch.index)
            return super().loss(batch)

    def right(lr: float) -> float:
        one = taught(lambda num, size: Linear(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, num))), [shown], settings, lr=lr, num_images=960)
        with torch.no_grad():
            found = one.see(data.batch(torch.arange(64)).image).class_log_probs
        assert found is not None and not one.network.training
        return float((found.argmax(1) == data.label)[known].double().mean())

    assert right(1e-2) > 0.9 > right(0.0) and sum(map(len, seen)) == 2 * 960
    assert set(torch.cat(seen).tolist()) == set(range(32))


class Knowing:
    """A specialist that is told the truth of all val and test images, or the contrary."""

    def __init__(self, *, right: bool) -> None:
        sets = [load_rectangles(name, split).with_slots(2) for name in OBJECTS for split in ("val", "test")]
        self.network, self._right = nn.Linear(1, 1), right
        self._truth = Batch.cat([data.batch(torch.arange(len(data))) for data in sets])

    def known(self, batch: Batch) -> Tensor:
        return torch.ones(len(batch), dtype=torch.bool)

    def loss(self, batch: Batch) -> Tensor:
        return self.network.weight.sum()

    def see(self, image: Tensor) -> Perception:
        truth = self._truth.rows(torch.stack([(self._truth.image == each).flatten(1).all(1).nonzero()[0, 0] for each in image]))
        label, mask = truth.label.clamp(min=0), truth.semantic_mask
        found = []
        for boxes, labels in zip(to_xyxy_px(truth.boxes_cxcywh, (16, 16)), truth.object_labels, strict=True):
            used = (labels >= 0) & self._right
            found.append(Detections(boxes[used], torch.ones(int(used.sum())), labels[used]))
        log_probs = (9.0 * nn.functional.one_hot(label if self._right else (label + 1) % 4, 4)).log_softmax(1)
        return Perception(log_probs, found, mask if self._right else torch.zeros_like(mask))


@pytest.mark.parametrize("right", [True, False])
def test_a_run_stands_behind_those_who_know_all_and_before_those_who_know_nothing(right: bool, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    base = config()
    path = make_run(data=replace(base.data, sets=tuple(OBJECTS)))
    rival = {task: {"rival": lambda num, image_size: Knowing(right=right)} for task in SPECIALISTS}
    monkeypatch.setattr(specialists_bench, "SPECIALISTS", rival)
    monkeypatch.setattr(specialists_bench, "MOST_VAL", 16)
    figures = {figure.name: figure for figure in specialist_figures(path)}
    one, two = base.train.stage1_images // base.train.stage1_batch_size, base.train.stage2_images // base.train.batch_size
    whole = base.train.stage1_images + base.train.stage2_images
    glimpsed = one * base.train.stage1_glimpses + two * base.train.glimpses
    assert glimpsed > 0, "or this says nothing about them"
    for task, key in specialists_bench.FIGURES.items():
        assert f"trained on {whole + glimpsed * (task != 'classification'):,} images" in figures[f"{task} {key}, joint less rival"].how
        apart = figures[f"{task} {key}, joint less rival"]
        ours, theirs = figures[f"joint: {task} {key}"].value, figures[f"rival: {task} {key}"].value
        assert ours is not None and theirs == pytest.approx(1.0 if right else 0.0, abs=1e-6)
        assert apart.value == pytest.approx(ours - theirs)
        assert apart.met is (ours - theirs >= -0.01) and apart.target == -0.01 and "100% of the labels" in apart.how
        assert apart.interval is not None and apart.interval[0] <= ours - theirs <= apart.interval[1]


def test_what_was_trained_is_kept_with_the_run_and_read_the_next_time(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    base = config()
    path = make_run(tasks=("classification",), data=replace(base.data, sets=("fashion",)))
    few = {"classification": {"one, two": lambda num, image_size: Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, num)))}}
    monkeypatch.setattr(specialists_bench, "SPECIALISTS", few)
    monkeypatch.setattr(specialists_bench, "MOST_VAL", 16)
    figures, kept = specialist_figures(path), sorted((path / specialists_bench.KEPT).iterdir())
    assert len(kept) == len(specialists_bench.RATES)

    def again(*args: object, **kwargs: object) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as within:
        within.setattr(specialists_bench, "taught", again)
        assert specialist_figures(path) == figures
    (kept[0] / specialists_bench.WEIGHTS).write_bytes(b"half")
    with pytest.raises(ValueError, match="damaged"):
        specialist_figures(path)
    write_folder(kept[0], lambda folder: save_tensors(folder / specialists_bench.WEIGHTS, {"other": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"does not fit its network.*delete"):
        specialist_figures(path)
    shutil.rmtree(kept[0])
    assert specialist_figures(path) == figures
    specialist_figures(path, quick=True)
    assert len(list((path / specialists_bench.KEPT).iterdir())) == len(kept)


def test_with_few_labels_a_run_should_be_ahead_and_a_quick_look_judges_nothing(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    base = config()
    path = make_run(tasks=("classification",), data=replace(base.data, sets=("fashion",), labelled_fraction=0.1))
    monkeypatch.setattr(specialists_bench, "QUICK_IMAGES", 32)
    monkeypatch.setattr(specialists_bench, "MOST_VAL", 16)
    figures = [figure for figure in specialist_figures(path, quick=True) if figure.target is not None]
    assert [figure.name for figure in figures] == [f"classification top1, joint less {name}" for name in SPECIALISTS["classification"]]
    assert all(figure.target == 0 and figure.met is None and "10% of the labels" in figure.how and "too few" in figure.how for figure in figures)


def test_a_run_without_a_task_to_compare_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="no task that there is a specialist for"):
        specialist_figures(make_run(tasks=("depth",)))


@pytest.mark.parametrize(("size", "stride", "finest"), [(32, 2, 2), (64, 8, 8)])
def test_small_pictures_have_finer_maps(size: int, stride: int, finest: int) -> None:
    """At the usual stride an object of 8 pixels would have no place of its own."""
    network = SPECIALISTS["detection"]["FCOS, ResNet-18"](4, (size, size)).network
    maps = list(network.backbone(torch.zeros(1, 3, size, size)).values())
    assert maps[0].shape[-1] == size // stride and network.anchor_generator.sizes[0] == (finest,)


def test_a_task_of_which_nothing_can_be_measured_trains_nobody(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of one class: being right on all of it would count as nothing, and as much as the others."""
    base = config()
    path = make_run(tasks=("classification",), data=replace(base.data, sets=("fashion",)))
    monkeypatch.setitem(specialists_bench.MEASURES, "classification", lambda seen, class_names: SimpleNamespace(figures={"nll": 1.0}))
    with pytest.raises(ValueError, match="no task that there is a specialist for"):
        specialist_figures(path, quick=True)
