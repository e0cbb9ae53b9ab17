"""Parquet and Arrow files as Hugging Face's `datasets` writes them: the same pictures, classes and boxes as in folders, and what is wrong is said."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from own_folders import write_boxes, write_photos
from PIL import Image

from genrep.datasets import check_data, read_folder
from genrep.datasets.glance import glance
from genrep.recipes.own import own
from genrep.types import UNLABELLED

NAMES = ["blue", "green", "red"]
SIZE = (20, 24)
IMAGE = {"_type": "Image"}
CLASS = {"names": NAMES, "_type": "ClassLabel"}
BOX = {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "List"}


def described(table: pa.Table, **features: Any) -> pa.Table:
    """With the description that `datasets` puts into its files."""
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(file: Path, table: pa.Table) -> Path:
    """Parquet, or the stream of `save_to_disk`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(table, file, row_group_size=2)
    else:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return file


def embedded(files: Sequence[Path]) -> list[dict[str, Any]]:
    return [{"bytes": file.read_bytes(), "path": file.name} for file in files]


def photos(tmp_path: Path, per_class: int = 12) -> tuple[Path, list[Path]]:
    """A folder by class without its mistakes, and its pictures, class by class."""
    root = write_photos(tmp_path / "folder", per_class)
    (root / "red" / "broken.jpg").unlink()
    (root / "green" / "notes.txt").unlink()
    return root, sorted(root.rglob("*.png"))


def classes(files: Sequence[Path]) -> list[int]:
    return [NAMES.index(file.parent.name) for file in files]


@pytest.mark.parametrize(
    "names", [("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"), ("train/data-00000.arrow", "train/data-00001.arrow")]
)
def test_it_is_what_class_folders_are(tmp_path: Path, names: tuple[str, str]) -> None:
    """Pictures in two files; val is the same tenth of each class, and the other columns do not matter."""
    folder, files = photos(tmp_path)
    for name, some in zip(names, (files[:10], files[10:]), strict=True):
        columns = {"id": [str(file) for file in some], "picture": embedded(some), "coarse": [0] * len(some), "label": classes(some)}
        features = {"picture": IMAGE, "coarse": {"names": ["x"], "_type": "ClassLabel"}, "label": CLASS}
        write(tmp_path / "set" / name, described(pa.table(columns), **features))
    for split in ("train", "val"):
        found, problems = read_folder(tmp_path / "set", split, image_size=SIZE)
        expected, _ = read_folder(folder, split, image_size=SIZE)
        assert found.class_names == expected.class_names == tuple(NAMES) and not problems
        assert torch.equal(found.pixels, expected.pixels) and torch.equal(found.label, expected.label)
    report = check_data(tmp_path / "set")
    assert report.layout == "arrow" and report.tally == "kept 36 pictures and 0 objects, fixed 0, dropped 0"


def test_splits_are_named_by_files_or_folders(tmp_path: Path) -> None:
    _, files = photos(tmp_path, 2)
    for name in ("default/train/0000.parquet", "default/validation/0000.parquet", "test-00000-of-00001.parquet", "cache-1a2b.arrow"):
        write(tmp_path / "train_set" / name, described(pa.table({"image": embedded(files), "label": classes(files)}), image=IMAGE, label=CLASS))
    assert [len(read_folder(tmp_path / "train_set", split, image_size=SIZE)[0]) for split in ("train", "val", "test")] == [6, 6, 6]


@pytest.mark.parametrize("form", ["lists", "pairs"])
def test_objects_are_what_coco_says_they_are(tmp_path: Path, form: str) -> None:
    """A struct of lists, or a list of structs; both are written by `datasets`."""
    folder = write_boxes(tmp_path / "coco")
    content = json.loads((folder / "annotations" / "instances_val.json").read_text())
    objects = [[(a["bbox"], (a["category_id"] - 3) // 2) for a in content["annotations"] if a["image_id"] == image["id"]] for image in content["images"]]
    category = {"names": ["blue", "green"], "_type": "ClassLabel"}
    if form == "lists":
        column: list[Any] = [{"bbox": [box for box, _ in each], "category": [label for _, label in each]} for each in objects]
        feature: Any = {"bbox": {"feature": BOX, "_type": "List"}, "category": {"feature": category, "_type": "List"}}
    else:
        column = [[{"bbox": box, "category": label} for box, label in each] for each in objects]
        feature = {"feature": {"bbox": BOX, "category": category}, "_type": "List"}
    pictures = embedded([folder / "images" / image["file_name"] for image in content["images"]])
    write(tmp_path / "set" / "train.parquet", described(pa.table({"image": pictures, "objects": column}), image=IMAGE, objects=feature))
    write(tmp_path / "set" / "validation.parquet", described(pa.table({"image": pictures, "objects": column}), image=IMAGE, objects=feature))
    found, problems = read_folder(tmp_path / "set", "val", image_size=(24, 32))
    expected, _ = read_folder(folder, "val", image_size=(24, 32))
    assert found.class_names == ("blue", "green") and not problems
    for name in ("pixels", "object_labels", "boxes_cxcywh", "has_objects", "label"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_files_may_count_the_classes_otherwise(tmp_path: Path) -> None:
    """Every file's numbers are those of its own names; the order is that of the first."""
    _, files = photos(tmp_path, 2)
    for split in ("train", "test"):
        for number, order in enumerate((NAMES, NAMES[::-1])):
            labels = [order.index(file.parent.name) for file in files]
            boxes = [{"bbox": [[1, 1, 5, 5]], "category": [label]} for label in labels]
            kind = {"names": order, "_type": "ClassLabel"}
            feature = {"bbox": {"feature": BOX, "_type": "List"}, "category": {"feature": kind, "_type": "List"}}
            name = f"{split}-{number if split == 'train' else 1 - number}.parquet"
            write(tmp_path / "one" / name, described(pa.table({"image": embedded(files), "label": labels}), image=IMAGE, label=kind))
            write(tmp_path / "boxes" / name, described(pa.table({"image": embedded(files), "objects": boxes}), image=IMAGE, objects=feature))
    for split in ("train", "val", "test"):
        for name in ("one", "boxes"):
            data, problems = read_folder(tmp_path / name, split, image_size=SIZE)
            assert data.class_names == tuple(NAMES) and not problems
            for pixels, label in zip(data.pixels.float(), data.label.tolist(), strict=True):
                assert int(pixels.amax((1, 2)).argmax()) == (2, 1, 0)[label], "blue is blue"


def test_files_of_different_classes_are_refused(tmp_path: Path) -> None:
    _, files = photos(tmp_path, 2)
    for split, names in (("train", NAMES), ("test", ["red", "green"])):
        features = {"image": IMAGE, "label": {"names": names, "_type": "ClassLabel"}}
        write(tmp_path / "set" / f"{split}.parquet", described(pa.table({"image": embedded(files), "label": [0] * 6}), **features))
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=r"test\.parquet has the classes red, green; .*train\.parquet has blue, green, red\. They must be the same"):
            read_folder(tmp_path / "set", split, image_size=SIZE)


def test_columns_of_usual_names_go_before_others_of_their_kind(tmp_path: Path) -> None:
    _, files = photos(tmp_path, 2)
    camera = {"names": ["phone", "webcam"], "_type": "ClassLabel"}
    columns = {"mask": embedded(files[::-1]), "image": embedded(files), "camera": [0] * 6, "label": [file.parent.name for file in files]}
    features = {"mask": IMAGE, "image": IMAGE, "camera": camera, "label": {"dtype": "string", "_type": "Value"}}
    write(tmp_path / "set" / "test.parquet", described(pa.table(columns), **features))
    data, problems = read_folder(tmp_path / "set", "test", image_size=SIZE)
    assert data.class_names == tuple(NAMES) and data.label.tolist() == [0, 0, 1, 1, 2, 2] and not problems
    assert [int(pixels.float().amax((1, 2)).argmax()) for pixels in data.pixels] == [2, 2, 1, 1, 0, 0]


@pytest.mark.parametrize("form", ["lists", "old lists"])
def test_the_names_of_objects_are_those_of_what_is_read(tmp_path: Path, form: str) -> None:
    _, files = photos(tmp_path, 1)
    cut = {"names": ["no", "yes"], "_type": "ClassLabel"}
    objects = [{"truncated": [1], "bbox": [[1, 1, 5, 5]], "category": [number]} for number in range(3)]
    if form == "lists":
        feature: Any = {
            "truncated": {"feature": cut, "_type": "List"},
            "bbox": {"feature": BOX, "_type": "List"},
            "category": {"feature": CLASS, "_type": "List"},
        }
    else:
        feature = {"feature": {"truncated": cut, "bbox": [BOX], "category": CLASS}, "_type": "Sequence"}
    write(tmp_path / "set" / "test.parquet", described(pa.table({"image": embedded(files), "objects": objects}), image=IMAGE, objects=feature))
    data, problems = read_folder(tmp_path / "set", "test", image_size=SIZE)
    assert data.class_names == tuple(NAMES) and data.label.tolist() == [0, 1, 2] and not problems


def test_without_a_description_columns_go_by_their_names(tmp_path: Path) -> None:
    _, files = photos(tmp_path, 2)
    for kind, labels in (("words", [file.parent.name for file in files]), ("numbers", classes(files))):
        write(tmp_path / kind / "train.parquet", pa.table({"img": [file.read_bytes() for file in files], "label": labels}))
        found, _ = read_folder(tmp_path / kind, "train", image_size=SIZE)
        assert found.class_names == (tuple(NAMES) if kind == "words" else ("0", "1", "2"))
    write(tmp_path / "far" / "train.parquet", pa.table({"img": [file.read_bytes() for file in files], "label": [7, 2**40, 7, 12, 12, -1]}))
    found, _ = read_folder(tmp_path / "far", "train", image_size=SIZE)
    assert found.class_names == ("7", "12", str(2**40)) and UNLABELLED in found.label
    write(tmp_path / "none" / "train.parquet", pa.table({"image": embedded(files)}))
    found, _ = read_folder(tmp_path / "none", "train", image_size=SIZE)
    assert found.class_names == () and (found.label == UNLABELLED).all() and not found.annotated.any()
    write(tmp_path / "text" / "train.parquet", pa.table({"text": ["a"]}))
    with pytest.raises(ValueError, match="has no column of pictures; expected `image`, found text"):
        read_folder(tmp_path / "text", "train", image_size=SIZE)


def test_what_is_wrong_is_said_by_row(tmp_path: Path) -> None:
    _, files = photos(tmp_path, 2)
    pictures: list[Any] = embedded(files)
    pictures[1] = {"bytes": None, "path": "elsewhere.png"}
    pictures[2] = {"bytes": b"not a picture", "path": None}
    labels = [0, 0, 1, 7, -1, 2]
    write(tmp_path / "set" / "test.parquet", described(pa.table({"image": pictures, "label": labels}), image=IMAGE, label=CLASS))
    found, problems = read_folder(tmp_path / "set", "test", image_size=SIZE)
    assert found.label.tolist() == [0, UNLABELLED, 2]
    said = [str(problem) for problem in problems]
    assert said[0] == "test.parquet row 1: holds no picture; left out"
    assert said[1].startswith("test.parquet row 2: cannot be read as a picture") and said[2].startswith(
        "test.parquet row 3: unknown class 7; known: blue, green, red"
    )
    with pytest.raises(ValueError, match="row 1: holds no picture"):
        read_folder(tmp_path / "set", "test", image_size=SIZE, strict=True)


def test_a_list_of_classes_is_all_that_a_picture_holds(tmp_path: Path) -> None:
    """None of them is known to be there, where the list is empty; where there is no list, nothing is known."""
    _, files = photos(tmp_path, 2)
    labels = [[0, 1], [2], [], [1, 1], None, [7]]
    write(
        tmp_path / "set" / "test.parquet",
        described(pa.table({"image": embedded(files), "labels": labels}), image=IMAGE, labels={"feature": CLASS, "_type": "List"}),
    )
    found, problems = read_folder(tmp_path / "set", "test", image_size=SIZE)
    present, known = found.batch(torch.arange(5)).class_sets
    assert present.int().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]] and known.tolist() == [True] * 4 + [False]
    assert found.label.tolist() == [UNLABELLED, 2, UNLABELLED, 1, UNLABELLED]
    assert [str(problem) for problem in problems] == ["test.parquet row 5: unknown class 7; known: blue, green, red; left out"]
    words = [["red", "blue"], ["blue"], [], ["red"]]
    write(tmp_path / "words" / "train.parquet", pa.table({"image": embedded(files[:4]), "labels": words}))
    found, _ = read_folder(tmp_path / "words", "train", image_size=SIZE)
    assert found.class_names == ("blue", "red") and len(found) == 3
    assert glance(tmp_path / "words").several_classes and own(tmp_path / "words")[0].model.tasks == ("multilabel",)


def test_objects_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    _, files = photos(tmp_path, 1)
    objects = [{"bbox": [[1, 1, 5, 5], [2, 2, 3, 3]], "category": [1, 9]}, {"bbox": [[1, 1, 5, 5]], "category": []}, None]
    feature = {"bbox": {"feature": BOX, "_type": "List"}, "category": {"feature": CLASS, "_type": "List"}}
    write(tmp_path / "set" / "test.parquet", described(pa.table({"image": embedded(files), "objects": objects}), image=IMAGE, objects=feature))
    found, problems = read_folder(tmp_path / "set", "test", image_size=SIZE)
    assert (found.object_labels >= 0).sum(1).tolist() == [1, 0, 0] and not found.has_objects.any()
    assert not found.batch(torch.arange(3)).class_sets[1].any() and (found.label == UNLABELLED).all()
    assert ["unknown class 9" in problems[0].what, "needs as many boxes" in problems[1].what] == [True, True] and len(problems) == 2


def test_objects_of_classes_without_names_are_refused(tmp_path: Path) -> None:
    _, files = photos(tmp_path, 1)
    objects = [{"bbox": [[1, 1, 5, 5]], "category": [1]}] * 3
    write(tmp_path / "set" / "train.parquet", pa.table({"image": embedded(files), "objects": objects}))
    with pytest.raises(ValueError, match="the classes of `objects` have no names"):
        read_folder(tmp_path / "set", "train", image_size=SIZE)


def test_a_damaged_file_loses_no_more_than_its_own_rows(tmp_path: Path) -> None:
    _, files = photos(tmp_path, 2)
    for number, some in enumerate((files[:3], files[3:])):
        write(tmp_path / "set" / f"train-{number}.parquet", described(pa.table({"image": embedded(some), "label": classes(some)}), image=IMAGE, label=CLASS))
    (tmp_path / "set" / "train-0.parquet").write_bytes(b"PAR1 and nothing else")
    found, problems = read_folder(tmp_path / "set", "train", image_size=SIZE)
    assert len(found) == 2 and len(problems) == 1 and "train-0.parquet row 0 on: cannot be read" in str(problems[0])
    (tmp_path / "set" / "train-1.parquet").unlink()
    with pytest.raises(ValueError, match=r"train-0\.parquet cannot be read"):
        read_folder(tmp_path / "set", "train", image_size=SIZE)


def test_a_recipe_is_chosen_by_looking_at_it(tmp_path: Path) -> None:
    grey = [Image.fromarray(np.full((30, 40), 9 * number, np.uint8)) for number in range(20)]
    contents = []
    for picture in grey:
        picture.save(content := io.BytesIO(), "PNG")
        contents.append({"bytes": content.getvalue(), "path": None})
    write(tmp_path / "set" / "train.parquet", described(pa.table({"image": contents, "label": [0, 1] * 10}), image=IMAGE, label=CLASS))
    seen = glance(tmp_path / "set")
    assert (seen.layout, seen.num_pictures, seen.size, seen.is_grey, seen.num_objects) == ("arrow", 20, (30, 40), True, 0)
    config, _ = own(tmp_path / "set")
    assert config.model.codec == "grey"


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.parquet").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow; install it with `pip install 'genrep\[arrow\]'`"):
        read_folder(tmp_path, "train", image_size=SIZE)
