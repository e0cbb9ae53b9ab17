"""The layout of Oxford-IIIT Pet: breeds from the lists, trimaps as masks, val held out by breed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from own_folders import write_pets

from genrep.datasets import check_data, read_folder, splits_of
from genrep.types import IGNORE

SIZE = (24, 32)


def test_breeds_and_trimaps(tmp_path: Path) -> None:
    root = write_pets(tmp_path / "pets")
    assert splits_of(root) == ("train", "val", "test")
    report = check_data(root)
    assert report.layout == "pets" and report.problems == [] and report.num_images == {"train": 10, "val": 2, "test": 12}
    assert all(num == 1 for num in report.num_per_class["val"].values()), "one of each breed"
    data, _ = read_folder(root, "test", image_size=SIZE)
    assert data.class_names == ("Bengal", "pug") and (data.semantic_mask[:, 0] == IGNORE).all()
    for mask, label in zip(data.semantic_mask[:, 1:], data.label, strict=True):
        assert torch.equal(mask.unique(), torch.tensor([0, int(label) + 1], dtype=torch.uint8))


def test_a_list_of_all_serves_where_there_is_no_other(tmp_path: Path) -> None:
    root = write_pets(tmp_path / "pets")
    lines = [(root / "annotations" / name) for name in ("trainval.txt", "test.txt")]
    (root / "annotations" / "list.txt").write_text("#Image CLASS-ID SPECIES BREED ID\n" + "".join(file.read_text() for file in lines))
    for file in lines:
        file.unlink()
    assert splits_of(root) == ("train", "val") and sum(check_data(root).num_images.values()) == 24


def test_what_is_of_test_is_not_of_train(tmp_path: Path) -> None:
    root = write_pets(tmp_path / "pets")
    lists = root / "annotations"
    tested = (lists / "test.txt").read_text()
    trainval = (lists / "trainval.txt").read_text()
    (lists / "trainval.txt").rename(lists / "list.txt")
    (lists / "list.txt").write_text(trainval + tested)
    report = check_data(root)
    assert report.num_images == {"train": 10, "val": 2, "test": 12} and report.problems == []
    (lists / "trainval.txt").write_text(trainval + tested.splitlines()[0])
    report = check_data(root)
    assert report.num_images == {"train": 10, "val": 2, "test": 12}
    assert [str(problem) for problem in report.problems] == [f"trainval.txt line 13: `{tested.split()[0]}` is of test, too; left out"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Bengal_99 1 1 1", "test.txt line 13: `Bengal_99` is not in images; left out"),
        ("../../x 1 1 1", "refused; left out"),
        ("Bengal_1 one 1 1", "test.txt line 13: expected `BREED_7 CLASS SPECIES ID`, numbers from the second on; found `Bengal_1 one 1 1`"),
        ("Bengal_1", "expected `BREED_7 CLASS SPECIES ID`"),
        (None, "is there twice; left out"),
    ],
)
def test_wrong_lines_are_named(tmp_path: Path, line: str | None, says: str) -> None:
    root = write_pets(tmp_path / "pets")
    file = root / "annotations" / "test.txt"
    file.write_text(file.read_text() + (file.read_text().splitlines()[0] if line is None else line) + "\n")
    data, problems = read_folder(root, "test", image_size=SIZE)
    assert len(data) == 12 and len(problems) == 1 and says in str(problems[0]) and problems[0].num_dropped == 1
    with pytest.raises(ValueError, match=r"test\.txt line 13"):
        read_folder(root, "test", image_size=SIZE, strict=True)


def test_a_picture_without_trimap_has_a_class_and_no_mask(tmp_path: Path) -> None:
    root = write_pets(tmp_path / "pets")
    for file in (root / "annotations/trimaps").iterdir():
        file.unlink()
    data, problems = read_folder(root, "test", image_size=SIZE)
    assert (data.semantic_mask == IGNORE).all() and (data.label >= 0).all() and len(problems) == 12 and not problems[0].is_wrong
