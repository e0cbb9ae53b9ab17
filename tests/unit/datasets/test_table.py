"""Tables of pictures and their classes: one, several or none of them, in whichever form people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from genrep.datasets import check_data, read_folder
from genrep.datasets.glance import glance
from genrep.datasets.table import read_table
from genrep.recipes.own import own
from genrep.types import UNLABELLED


def fill(root: Path, num: int, *rows: str, names: str = "") -> Path:
    """`num` pictures of different greys in `images`, and a table."""
    (root / "images").mkdir(parents=True)
    for number in range(num):
        Image.new("RGB", (6, 4), (8 * number,) * 3).save(root / "images" / f"{number}.png")
    (root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if names:
        (root / "classes.txt").write_text(names)
    return root


def sets(root: Path, split: str = "test") -> list[set[str] | None]:
    """What is known of each picture."""
    data, _ = read_folder(root, split, image_size=(4, 6))
    present, known = data.batch(torch.arange(len(data))).class_sets
    return [{data.class_names[k] for k in torch.nonzero(row).flatten()} if is_known else None for row, is_known in zip(present, known, strict=True)]


@pytest.mark.parametrize(
    "rows",
    [
        ("file_name,labels,split", "0.png,cat|dog,test", "1.png,dog,test", "2.png,,test", '"3.png","bird; cat",test'),
        ("\ufeffsplit;Image;Class", "test;images/0.png;dog|cat", "TEST;1.png;dog", "test;2.png;", "test;3.png;cat | bird"),
        ("path\tlabel\tsplit", "0.png\tcat\ttest", "1.png\tdog\ttest", "2.png\t\ttest", "0.png\tdog\ttest", "3.png\tbird\ttest", "3.png\tcat\ttest"),
        ("filename,bird,cat,dog,split", "0.png,0,1,1,test", "1.png,0,0,1,test", "2.png,,,,test", "3.png,1,1.0,0,test"),
    ],
    ids=["a cell", "semicolons", "rows", "columns"],
)
def test_however_it_is_written_it_says_the_same(tmp_path: Path, rows: tuple[str, ...]) -> None:
    root = fill(tmp_path, 4, *rows)
    data, problems = read_folder(root, "test", image_size=(4, 6))
    assert data.class_names == ("bird", "cat", "dog") and not problems
    assert data.pixels[:, 0, 0, 0].tolist() == [0, 8, 16, 24]
    assert sets(root) == [{"cat", "dog"}, {"dog"}, None, {"bird", "cat"}]
    assert data.label.tolist() == [UNLABELLED, 2, UNLABELLED, UNLABELLED], "a class that is alone is the picture's"
    assert data.annotated.tolist() == [True, True, False, True]


def test_a_split_may_be_called_as_a_folder_or_a_file_may(tmp_path: Path) -> None:
    root = fill(tmp_path, 4, "file,label,split", "0.png,cat,train", "1.png,dog,dev", "2.png,cat,Eval", "3.png,dog,evaluation")
    assert [sets(root, split) for split in ("train", "val", "test")] == [[{"cat"}], [{"dog"}], [{"cat"}, {"dog"}]]


def test_zeros_throughout_are_known_to_be_none(tmp_path: Path) -> None:
    root = fill(tmp_path, 2, "file,cat,dog,split", "0.png,0,0,test", "1.png,1,0,test")
    assert sets(root) == [set(), {"cat"}]
    batch = read_folder(root, "test", image_size=(4, 6))[0].batch(torch.arange(2))
    assert not batch.unannotated.any() and batch.classes.tolist() == [[0, 0], [1, 0]], "and to generation it is nothing in particular"


def test_one_class_each_is_what_class_folders_are(tmp_path: Path) -> None:
    root = fill(tmp_path, 30, "file_name,label", *(f"{number}.png,{'ab'[number % 2]}" for number in range(30)))
    train, val = (read_folder(root, split, image_size=(4, 6))[0] for split in ("train", "val"))
    assert (len(train), len(val)) == (26, 4) and train.classes is None and train.has_classes is None
    assert (train.pixels[:, 0, 0, 0] // 8 % 2 == train.label).all()
    assert not glance(root).several_classes and "classification" in own(root)[0].model.tasks
    report = check_data(root)
    assert report.layout == "table" and report.num_per_class == {"train": {"a": 13, "b": 13}, "val": {"a": 2, "b": 2}}


def test_classes_may_be_named_in_their_order(tmp_path: Path) -> None:
    root = fill(tmp_path, 3, "file_name,labels,split", "0.png,dog,test", "1.png,cat|mouse,test", "2.png,cat|dog,test", names="dog\ncat\nbird\n")
    data, problems = read_folder(root, "test", image_size=(4, 6))
    assert data.class_names == ("dog", "cat", "bird") and sets(root) == [{"dog"}, {"cat", "dog"}]
    assert [str(problem) for problem in problems] == ["labels.csv row 3: unknown class `mouse`; known: dog, cat, bird; left out"]
    assert check_data(root).num_per_class["test"] == {"dog": 2, "cat": 1, "bird": 0}


def test_what_is_wrong_is_said_by_row_and_counted_by_picture(tmp_path: Path) -> None:
    rows = ("0.png,cat,test", "0.png,dog,val", "missing.png,cat,test", "1.png,cat", "2.png,cat,tst", "../x.png,cat,test", "3.png,cat|dog,test", "")
    root = fill(tmp_path, 4, "file_name,labels,split", *rows)
    (root / "images" / "3.png").write_text("no picture")
    data, problems = read_folder(root, "test", image_size=(4, 6))
    assert len(data) == 1 and sum(problem.num_dropped for problem in problems) == 5, "the first one is not lost"
    for expected, found in zip(
        (
            "labels.csv row 3: 0.png is of test in labels.csv row 2, and of val here",
            "labels.csv row 4: missing.png is missing; left out",
            "labels.csv row 5: has 2 cells; the first line has 3; left out",
            "labels.csv row 6: unknown split `tst`; known: train, training, val, valid, validation, test, testing, dev, eval, evaluation; left out",
            "labels.csv row 7: `'../x.png'` is not a plain path below the data folder; refused; left out",
            "labels.csv row 8: cannot be read as a picture",
        ),
        map(str, problems),
        strict=True,
    ):
        assert found.startswith(expected)
    with pytest.raises(ValueError, match="row 3: "):
        read_table(root, "test", image_size=(4, 6), strict=True)


def test_a_picture_is_one_however_it_is_called(tmp_path: Path) -> None:
    rows = (
        "0.png,cat,train",
        "images/0.png,cat,test",
        "1.png,cat,train",
        "./images/1.png,dog,train",
        "images//1.png,bird,train",
        "./1.png,cat,tst",
        "2.png,cat,test",
    )
    root = fill(tmp_path, 3, "file_name,labels,split", *rows)
    data, problems = read_folder(root, "test", image_size=(4, 6))
    assert data.pixels[:, 0, 0, 0].tolist() == [16]
    assert [str(problem) for problem in problems] == [
        "labels.csv row 3: 0.png is of train in labels.csv row 2, and of test here",
        "labels.csv row 7: unknown split `tst`; known: train, training, val, valid, validation, test, testing, dev, eval, evaluation",
    ]
    assert sum(problem.num_dropped for problem in problems) == 0, "both pictures are there"
    assert sorted(read_folder(root, "train", image_size=(4, 6))[0].pixels[:, 0, 0, 0].tolist()) == [0, 8]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("picture,labels", "has no column of pictures; expected file_name, .* found picture, labels. Rename the file"),
        ("file_name", "has no classes; expected a column labels, .*, or a column of 0 and 1 for each class"),
        ("file_name,a,a", "has no classes"),
        ("", "has no column of pictures; .* found nothing"),
    ],
)
def test_a_table_without_files_or_classes_is_one_line(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_folder(fill(tmp_path, 1, header, "0.png,a"), "train", image_size=(4, 6))


def test_where_no_picture_is_there_the_first_row_says_so(tmp_path: Path) -> None:
    """It is not taken for something else, though `images` looks like a class."""
    with pytest.raises(ValueError, match=r"labels.csv has no row that can be used; labels.csv row 2: 9.png is missing\.$"):
        read_folder(fill(tmp_path, 2, "file_name,labels", "9.png,a", "8.png,b"), "train", image_size=(4, 6))


def test_a_column_of_a_class_holds_nothing_else(tmp_path: Path) -> None:
    root = fill(tmp_path, 2, "file_name,cat,dog,split", "0.png,2,0,test", "1.png,1,0,test")
    _, problems = read_folder(root, "test", image_size=(4, 6))
    assert [str(each) for each in problems] == ["labels.csv row 2: `2` in column `cat`; expected 0 or 1 in every column of a class; left out"]


def test_no_text_is_one_line(tmp_path: Path) -> None:
    (fill(tmp_path, 1, "") / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read_folder(tmp_path, "train", image_size=(4, 6))


def test_several_classes_are_asked_for_one_by_one(tmp_path: Path) -> None:
    config, line = own(fill(tmp_path, 3, "file_name,labels", "0.png,a|b", "1.png,a", "2.png,b"))
    assert config.model.tasks == ("multilabel",) and config.eval.num_scene_samples > 0
    assert "with any number of classes; chosen" in line
