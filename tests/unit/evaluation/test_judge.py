"""The judge learns, is the same for the same seed, leaves the global generator alone, and survives a damaged cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rectangles import rectangles

from genrep.datasets import load_dataset
from genrep.datasets.base import of_class_sets
from genrep.evaluation import judge as judges
from genrep.evaluation.judge import NUM_FEATURES, SHIPPED, fit_judge, holds_several, load_judge
from genrep.metrics.multilabel import set_f1
from genrep.storage import verify_folder
from genrep.types import UNLABELLED

TRAIN = rectangles(96, size=16)
TEST = rectangles(40, size=16, seed=1)


def test_it_recognises_what_it_was_shown(tmp_path: Path) -> None:
    test = TEST.batch(torch.arange(40))
    features, judged = load_judge(rectangles(300, size=16), cache=tmp_path)(test.image, batch_size=7)
    assert features.shape == (40, NUM_FEATURES)
    assert float((judged == test.label).double().mean()) > 0.9


def test_where_images_hold_several_it_says_which(tmp_path: Path) -> None:
    train, test = (rectangles(num, num_objects=2, size=16, seed=seed) for num, seed in ((256, 3), (40, 4)))
    batch = test.batch(torch.arange(40))
    judge = load_judge(train, cache=tmp_path)
    found = judge.sets(batch.image)
    assert found.shape == batch.classes.shape and set(found.unique().tolist()) <= {0.0, 1.0}
    assert float(set_f1(found > 0, batch.classes > 0).mean()) > 0.8 > float(set_f1(found.roll(1, 0) > 0, batch.classes > 0).mean())
    assert judge.name != load_judge(replace(train, object_labels=train.object_labels.flip(0)), cache=tmp_path).name


def test_class_sets_without_objects_are_enough(tmp_path: Path) -> None:
    """They make the judge that objects of these classes make; other sets of the same pictures make another."""
    train = rectangles(64, num_objects=2, size=16)
    held = [set(row[row != UNLABELLED].tolist()) for row in train.object_labels]
    bare = of_class_sets(train.name, train.class_names, train.pixels, held, 2)
    one, same = (fit_judge(data, seed=0).state_dict() for data in (train, bare))
    assert all(torch.equal(one[name], same[name]) for name in one)
    other = of_class_sets(train.name, train.class_names, train.pixels, [*held[1:], held[0]], 2)
    assert load_judge(bare, cache=tmp_path).name != load_judge(other, cache=tmp_path).name


def test_what_is_there_twice_is_there() -> None:
    """Of sets a judge learns the same, however many objects a class has."""
    once = rectangles(16, num_objects=2, size=16)
    twice = replace(once, object_labels=torch.cat([once.object_labels[:, :2]] * 2, 1))
    assert twice.batch(torch.arange(16)).classes.max() == 2
    one, same = (fit_judge(data, seed=0).state_dict() for data in (once, twice))
    assert all(torch.equal(one[name], same[name]) for name in one)


def test_a_seed_is_a_judge_and_the_global_generator_stays() -> None:
    few = TRAIN.first(16)
    before = torch.random.get_rng_state()
    one, same, other = (fit_judge(few, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["classify.weight"], other["classify.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_is_kept_and_made_again_when_damaged(tmp_path: Path) -> None:
    few = TRAIN.first(16)
    first = load_judge(few, cache=tmp_path)
    file = next(tmp_path.glob("judges/*/judge.safetensors"))
    written = file.read_bytes()
    load_judge(few, cache=tmp_path)
    assert file.read_bytes() == written
    file.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))
    again = load_judge(few, cache=tmp_path)
    assert again.name == first.name and file.read_bytes() == written


def test_other_images_or_labels_are_another_judge(tmp_path: Path) -> None:
    few = TRAIN.first(8)
    others = (few, replace(few, label=few.label.flip(0)), replace(few, pixels=few.pixels.flip(-1)))
    assert len({load_judge(data, cache=tmp_path).name for data in others}) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "right"), [("fashion", 0.9), ("fashion-scenes", 0.7)])
def test_those_of_the_embedded_sets_come_with_the_package(name: str, right: float, tmp_path: Path) -> None:
    """On every machine the same, and not made anew; they recognise real test images."""
    try:
        train, test = load_dataset(name, "train"), load_dataset(name, "test", num=500)
    except FileNotFoundError:
        pytest.skip("no Fashion-MNIST here; `genrep data fetch` brings it")
    judge = load_judge(train, cache=tmp_path)
    assert not any(tmp_path.iterdir())
    batch = test.batch(torch.arange(500))
    found = judge(batch.image)[1] == batch.label if name == "fashion" else set_f1(judge.sets(batch.image) > 0, batch.classes > 0)
    assert float(found.double().mean()) > right


def test_those_that_come_with_the_package_are_whole() -> None:
    folders = sorted(path for path in SHIPPED.iterdir() if path.is_dir())
    assert [folder.name.partition("-judge")[0] for folder in folders] == ["fashion", "fashion-scenes"]
    for folder in folders:
        verify_folder(folder)


def test_it_is_called_after_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine fits to the same images is another judge."""
    few = TRAIN.first(16)
    mine = load_judge(few, cache=tmp_path / "mine")
    monkeypatch.setattr(judges, "fit_judge", lambda train, *, seed: fit_judge(train, seed=seed + 1))
    assert (yours := load_judge(few, cache=tmp_path / "yours").name) != mine.name and yours.rpartition("-")[0] == mine.name.rpartition("-")[0]


def test_of_another_length_it_is_another_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its weights, and so in its name before them: one that an older version fitted, which saw small sets less often, is not taken for it."""
    monkeypatch.setattr(judges, "MIN_STEPS", 1)
    names = []
    for epochs in (2, 3, 12):
        monkeypatch.setattr(judges, "usual_epochs", lambda num, epochs=epochs: epochs)
        names.append(load_judge(TRAIN.first(16), cache=tmp_path).name.rpartition("-"))
    assert len({of for of, _, _ in names}) == len({weights for _, _, weights in names}) == 3


def test_it_needs_every_label() -> None:
    with pytest.raises(ValueError, match="found 4 without"):
        fit_judge(TRAIN.with_labels_for(torch.arange(96) >= 4))


def test_a_class_that_no_picture_shows_makes_another_judge(tmp_path: Path) -> None:
    """Which may be seen in val alone; the network has as many answers."""
    few = TRAIN.first(16)
    more = replace(few, class_names=(*few.class_names, "e"))
    assert load_judge(few, cache=tmp_path).network.classify.out_features == 4
    assert load_judge(more, cache=tmp_path).network.classify.out_features == 5


def test_several_objects_of_one_class_are_a_set() -> None:
    """Though such a picture has a label."""
    several = rectangles(8, num_objects=2, size=16)
    alike = replace(several, object_labels=several.object_labels.clamp(max=0), label=torch.zeros(8, dtype=torch.int64))
    assert holds_several(alike) and holds_several(several) and not holds_several(TRAIN)
