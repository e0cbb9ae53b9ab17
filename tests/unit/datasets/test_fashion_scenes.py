from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genrep.boxes import to_xyxy_px
from genrep.datasets import fashion_scenes, load_dataset
from genrep.datasets.base import ArrayDataset
from genrep.datasets.fashion_scenes import FULL_COVER, scenes
from genrep.datasets.garments import Garments, Origin, load_garments
from genrep.types import UNLABELLED

ARRAYS = ("pixels", "object_labels", "boxes_cxcywh", "instance_mask", "semantic_mask", "sources")


@pytest.fixture(scope="module")
def garments(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Garments:
    cache = tmp_path_factory.mktemp("cache")
    return load_garments(Origin(split="train", root=idx_folder, cache=cache, allow_network=False, verify=False))


@pytest.fixture(scope="module")
def many(garments: Garments) -> ArrayDataset:
    return scenes(garments, torch.arange(600), seed=0, split="train")


def test_a_scene_depends_on_seed_split_and_index_alone(garments: Garments, many: ArrayDataset) -> None:
    indices = torch.tensor([599, 3, 250, 3])
    some = scenes(garments, indices, seed=0, split="train")
    for name in ARRAYS:
        assert torch.equal(getattr(some, name), getattr(many, name)[indices])
    for seed, split in ((1, "train"), (0, "val")):
        other = scenes(garments, indices, seed=seed, split=split)
        assert (other.pixels != some.pixels).flatten(1).any(1).all()


def test_two_to_four_garments_of_equal_frequency_and_every_slot_named(many: ArrayDataset, garments: Garments) -> None:
    used = many.sources != UNLABELLED
    count = used.sum(1)
    assert torch.equal(used, torch.arange(4) < count[:, None])
    assert (count.bincount(minlength=5)[2:] > 160).all() and count.min() == 2
    assert torch.equal(many.object_labels[used], garments.label[many.sources[used]])
    assert (many.object_labels[~used] == UNLABELLED).all() and (many.boxes_cxcywh[~used] == 0).all()


def test_boxes_are_tight_around_the_visible_part(many: ArrayDataset) -> None:
    corners = to_xyxy_px(many.boxes_cxcywh, (32, 32)).round().int()
    for row, slot in (many.sources != UNLABELLED).nonzero().tolist():
        visible = many.instance_mask[row] == slot + 1
        y, x = visible.nonzero(as_tuple=True)
        assert corners[row, slot].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_semantic_mask_is_the_instance_mask_by_class(many: ArrayDataset) -> None:
    for row in range(len(many)):
        for slot in range(4):
            found = many.semantic_mask[row][many.instance_mask[row] == slot + 1]
            assert (found == many.object_labels[row, slot] + 1).all()
    assert ((many.semantic_mask == 0) == (many.instance_mask == 0)).all()


def _layouts(monkeypatch: pytest.MonkeyPatch, garments: Garments) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(cover, used, accepted) of every attempt at 250 scenes."""
    seen, stack = [], fashion_scenes._stack

    def spy(cover: torch.Tensor, used: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        instance, good = stack(cover, used)
        seen.append((cover, used, good))
        return instance, good

    monkeypatch.setattr(fashion_scenes, "_stack", spy)
    scenes(garments, torch.arange(250), seed=0, split="train")
    return seen


def test_every_garment_is_at_least_half_visible(monkeypatch: pytest.MonkeyPatch, garments: Garments) -> None:
    refused = 0
    for cover, used, good in _layouts(monkeypatch, garments):
        full = 2 * cover >= FULL_COVER
        hidden = torch.stack([full[:, slot] & full[:, slot + 1 :].any(1) for slot in range(4)], 1)
        area, lost = full.sum((-1, -2)), hidden.sum((-1, -2))
        assert ((2 * lost <= area) & (area > 0) | ~used)[good].all()
        refused += int((~good).sum())
    assert refused > 0


def test_later_slots_are_nearer(monkeypatch: pytest.MonkeyPatch, garments: Garments, many: ArrayDataset) -> None:
    cover, _, good = _layouts(monkeypatch, garments)[0]
    full = 2 * cover[good] >= FULL_COVER
    top = (full * torch.arange(1, 5)[:, None, None]).amax(1)
    assert torch.equal(top, many.instance_mask[:250][good].long())


def test_shrunk_garments_keep_their_area_and_size() -> None:
    filters = fashion_scenes._area_filters()
    for number, side in enumerate(range(11, 21)):
        for offset in (0, 32 - side):
            rows = filters[number, offset]
            assert torch.equal(rows.sum(1), torch.where((torch.arange(32) >= offset) & (torch.arange(32) < offset + side), 28.0, 0.0))
            assert torch.equal(rows.sum(0), torch.full((28,), float(side)))


def test_ground_is_dark_grey_and_either_flat_or_linear(many: ArrayDataset) -> None:
    far = torch.nn.functional.max_pool2d((many.instance_mask != 0).float()[:, None], 5, stride=1, padding=2) == 0
    assert many.pixels[far].max() <= fashion_scenes.BRIGHTEST_GROUND + 0.5
    spread = torch.stack([pixels[where].float().std() for pixels, where in zip(many.pixels, far, strict=True)])
    assert 0.35 < (spread == 0).float().mean() < 0.65


def test_sources_belong_to_the_split(idx_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        single, data = (load_dataset(name, split, num=30, root=idx_folder, cache=tmp_path, verify=False) for name in ("fashion", "fashion-scenes"))
        used = data.sources != UNLABELLED
        whole = load_dataset("fashion", split, root=idx_folder, cache=tmp_path, verify=False)
        assert data.sources.max() < len(whole) and len(single) == 30
        assert torch.equal(data.object_labels[used], whole.label[data.sources[used]])


def test_cache_returns_the_same_scenes_for_every_count(idx_folder: Path, tmp_path: Path) -> None:
    few, more, again = (load_dataset("fashion-scenes", "val", num=num, root=idx_folder, cache=tmp_path, verify=False) for num in (5, 9, 5))
    for name in ARRAYS:
        assert torch.equal(getattr(few, name), getattr(more, name)[:5])
        assert torch.equal(getattr(few, name), getattr(again, name))
    seen = torch.stack([(few.instance_mask == number).flatten(1).any(1) for number in range(1, 5)], 1)
    assert torch.equal(seen, few.sources != UNLABELLED)


def test_specks_cannot_make_scenes(garments: Garments) -> None:
    mask = torch.zeros_like(garments.mask)
    mask[:, 13:15, 13:15] = True
    specks = Garments(pixels=garments.pixels, mask=mask, label=garments.label)
    with pytest.raises(ValueError, match="scene 7 of `train` could not be composed"):
        scenes(specks, torch.tensor([7]), seed=0, split="train")
