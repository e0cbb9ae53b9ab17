"""Folders of MNIST's and CIFAR's files: classes by byte, val held out of each class, pickles refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from own_folders import write_cifar, write_digits

from genrep.datasets import check_data, read_folder, splits_of
from genrep.datasets.glance import glance

SIZE = (32, 32)


def test_digits(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits")
    report = check_data(root)
    assert report.layout == "idx" and report.num_images == {"train": 30, "val": 10, "test": 20} and report.problems == []
    assert set(report.num_per_class["val"].values()) == {1} and list(report.num_per_class["val"]) == [str(k) for k in range(10)]
    data, _ = read_folder(root, "test", image_size=(12, 12), channels=1)
    assert torch.equal(data.pixels[:, 0].float().mean(2).argmax(1), data.label)
    (root / "classes.txt").write_text("\n".join("abcdefghij"))
    assert read_folder(root, "test", image_size=SIZE)[0].class_names == tuple("abcdefghij")
    assert glance(root).size == (12, 12) and glance(root).is_grey and glance(root).num_pictures == 40


def test_cifar(tmp_path: Path) -> None:
    root = write_cifar(tmp_path / "cifar")
    assert splits_of(root) == ("train", "val", "test")
    report = check_data(root)
    assert report.layout == "cifar" and report.num_images == {"train": 50, "val": 10, "test": 30} and report.problems == []
    data, _ = read_folder(root, "test", image_size=SIZE)
    assert data.class_names[3] == "thing3" and torch.equal(data.pixels[:, 0].float().mean((1, 2)), 20.0 * data.label) and (data.pixels[:, 1] == 10).all()
    assert glance(root).size == SIZE and not glance(root).is_grey


def test_cifar_100_has_its_fine_classes(tmp_path: Path) -> None:
    records = np.zeros((4, 3074), np.uint8)
    records[:, 0], records[:, 1] = 7, [0, 99, 0, 99]
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(records.tobytes())
    data, _ = read_folder(tmp_path, "test", image_size=SIZE)
    assert len(data.class_names) == 100 and data.label.tolist() == [0, 99, 0, 99]


@pytest.mark.parametrize("name", ["data_batch_1", "train"])
def test_pickles_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(ValueError, match=rf"{name} is a Python pickle, which can run code when it is read; refused. Get the binary version, cifar-"):
        check_data(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "says", "kept", "dropped"),
    [
        (lambda data: data[:-1], "3072 bytes at the end are no whole picture of 3073; left out", 29, 1),
        (lambda data: b"\xff" + data[1:], "test_batch.bin: 1 pictures have label 255, which is no class (known: 0 to 9); left out", 29, 1),
    ],
)
def test_what_is_wrong_with_a_batch_is_counted(tmp_path: Path, spoil, says: str, kept: int, dropped: int) -> None:
    file = write_cifar(tmp_path / "cifar") / "test_batch.bin"
    file.write_bytes(spoil(file.read_bytes()))
    data, problems = read_folder(tmp_path / "cifar", "test", image_size=SIZE)
    assert len(data) == kept and [each.num_dropped for each in problems] == [dropped] and says in str(problems[0])


def test_files_that_do_not_fit_each_other_are_one_line(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits")
    (root / "t10k-labels-idx1-ubyte").write_bytes((root / "train-labels-idx1-ubyte").read_bytes())
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte has sizes \(20, 12, 12\), t10k-labels-idx1-ubyte \(40,\); expected"):
        read_folder(root, "test", image_size=SIZE)
    with pytest.raises(ValueError, match="unknown split of"):
        read_folder(root, "tset", image_size=SIZE)
