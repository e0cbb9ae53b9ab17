from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from genrep.boxes import to_xyxy_px
from genrep.datasets import FASHION_CLASSES, garments, load_dataset
from genrep.datasets.garments import garment_masks
from genrep.datasets.idx import read_idx
from genrep.types import UNLABELLED, Batch


def _naive_mask(picture: np.ndarray) -> np.ndarray:
    components, _ = ndimage.label(picture > 0, np.ones((3, 3)))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(components == sizes.argmax())


def test_masks_equal_one_by_one_computation() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 28, 28)).astype(np.uint8)
    density = np.linspace(0.05, 0.9, 300)[:, None, None]
    pictures = np.where(noise < 255 * density, noise | 1, 0).astype(np.uint8)
    assert np.array_equal(garment_masks(pictures), np.stack([_naive_mask(picture) for picture in pictures]))


def test_masks_do_not_reach_into_neighbouring_pictures() -> None:
    pictures = np.zeros((3, 28, 28), np.uint8)
    pictures[0, 20:, 20:] = pictures[1, :3, :3] = pictures[2, 20:, 20:] = 9
    assert np.array_equal(garment_masks(pictures), pictures > 0)


def test_mask_fills_holes_and_drops_specks(idx_folder: Path, tmp_path: Path) -> None:
    data = load_dataset("fashion", "test", root=idx_folder, cache=tmp_path, verify=False)
    mask = data.instance_mask == 1
    assert mask[:, 15:17, 15:17].all()
    assert not mask[:, 2, 2].any()
    assert (data.pixels[:, 0, 2, 2] == 200).all()


def test_boxes_are_tight_and_masks_agree(idx_folder: Path, tmp_path: Path) -> None:
    data = load_dataset("fashion", "val", root=idx_folder, cache=tmp_path, verify=False)
    batch = data.batch(torch.arange(len(data)))
    for row in range(len(data)):
        x0, y0, x1, y1 = to_xyxy_px(batch.boxes_cxcywh[row, 0], (32, 32)).round().int().tolist()
        inside = batch.instance_mask[row] == 1
        assert inside[y0:y1, x0:x1].sum() == inside.sum()
        assert inside[y0].any() and inside[y1 - 1].any() and inside[:, x0].any() and inside[:, x1 - 1].any()
        assert torch.equal(batch.semantic_mask[row], batch.instance_mask[row] * (batch.label[row] + 1).to(torch.uint8))


def test_batch_follows_the_conventions(idx_folder: Path, tmp_path: Path) -> None:
    batch = load_dataset("fashion", "train", root=idx_folder, cache=tmp_path, verify=False).batch(torch.tensor([13, 4]))
    assert batch.image.shape == (2, 3, 32, 32)
    assert batch.image.min() == -1 and batch.image.max() <= 1
    assert batch.label.tolist() == [3, 4] and batch.object_labels.tolist() == [[3, -1, -1, -1], [4, -1, -1, -1]]
    assert batch.classes.argmax(1).tolist() == [3, 4] and batch.classes.sum() == 2
    assert batch.index.tolist() == [13, 4] and batch.has_objects.all()
    assert (batch.boxes_cxcywh[:, 1:] == 0).all()


def test_splits_are_never_mixed(idx_folder: Path, tmp_path: Path) -> None:
    original = read_idx(idx_folder / "train-images-idx3-ubyte.gz")
    train, val, test = (load_dataset("fashion", split, root=idx_folder, cache=tmp_path, verify=False) for split in ("train", "val", "test"))
    both = torch.cat([train.pixels, val.pixels])[:, 0, 2:-2, 2:-2]
    assert np.array_equal(both.numpy(), original)
    assert len(test) == 30
    assert len({picture.numpy().tobytes() for data in (train, val, test) for picture in data.pixels}) == 110


def test_val_is_the_last_training_pictures(monkeypatch: pytest.MonkeyPatch, idx_folder: Path, tmp_path: Path) -> None:
    assert garments.NUM_VAL == 5_000
    monkeypatch.setattr(garments, "NUM_VAL", 10)
    train, val = (load_dataset("fashion", split, root=idx_folder, cache=tmp_path, verify=False) for split in ("train", "val"))
    assert (len(train), len(val)) == (70, 10)


def test_first_samples_are_those_of_the_whole(idx_folder: Path, tmp_path: Path) -> None:
    whole, part = (load_dataset("fashion", "train", num=num, root=idx_folder, cache=tmp_path, verify=False) for num in (None, 6))
    assert len(part) == 6
    assert torch.equal(part.pixels, whole.pixels[:6])
    assert torch.equal(whole.first(6).boxes_cxcywh, part.boxes_cxcywh)


def test_pictures_end_and_scenes_do_not(idx_folder: Path, tmp_path: Path) -> None:
    sizes = {}
    for name in ("fashion", "fashion-scenes"):
        usual, more = (load_dataset(name, "test", num=num, root=idx_folder, cache=tmp_path, verify=False) for num in (None, 2_003))
        assert torch.equal(more.pixels[: len(usual)], usual.pixels)
        sizes[name] = len(usual), len(more)
    assert sizes == {"fashion": (30, 30), "fashion-scenes": (2_000, 2_003)}


@pytest.mark.parametrize(
    ("name", "split", "num", "message"),
    [
        ("fashoin", "train", None, "unknown data set `fashoin`.*Did you mean `fashion`"),
        ("fashion", "valid", None, "unknown split `valid`.*Did you mean `val`"),
        ("fashion-scenes", "valid", None, "unknown split `valid`.*Did you mean `val`"),
        ("fashion", "train", 0, "`num` must be at least 1"),
        ("fashion-scenes", "test", -1, "`num` must be at least 1"),
    ],
)
def test_wrong_requests_are_refused(idx_folder: Path, tmp_path: Path, name: str, split: str, num: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(name, split, num=num, root=idx_folder, cache=tmp_path, verify=False)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ((4, 28, 27), 4, "expected pictures"),
        ((4, 28, 28), 5, "with as many labels"),
        ((4, 28, 28), 4, "picture 0 has no pixel above 0"),
    ],
)
def test_unfit_pictures_are_refused(tmp_path: Path, write_idx, images: tuple[int, ...], labels: int, message: str) -> None:
    for stem in ("train", "t10k"):
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte", np.zeros(images, np.uint8))
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", np.zeros(labels, np.uint8))
    with pytest.raises(ValueError, match=message):
        load_dataset("fashion", "test", root=tmp_path, cache=tmp_path, verify=False)


def test_both_sets_fit_in_one_batch(idx_folder: Path, tmp_path: Path) -> None:
    first, second = (load_dataset(name, "test", num=3, root=idx_folder, cache=tmp_path, verify=False) for name in ("fashion", "fashion-scenes"))
    both = Batch.cat([first.batch(torch.arange(3)), second.batch(torch.arange(3))])
    assert both.boxes_cxcywh.shape == (6, 4, 4) and both.classes.shape == (6, len(FASHION_CLASSES))
    assert (both.label[3:] == UNLABELLED).all()
