"""A folder of three or four pictures in every layout that can be read, and how many things there are to account for: to be damaged."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genrep.datasets.images import of_split

NUM = 3
HEIGHT, WIDTH = 10, 12


@dataclass(frozen=True)
class Small:
    """A folder."""

    root: Path
    split: str
    """What is read of it; no other depends on the same documents."""
    documents: Sequence[Path]
    """What may be damaged."""
    count: Callable[[], int]
    """How many pictures and objects the documents name, as they are now; asked where the reader could make something of them."""


def _picture(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (80 * number, 10, 10)).save(path)
    return path


def _array(path: Path, values: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def _text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def coco(root: Path) -> Small:
    """Boxes, polygons, run lengths and a crowd."""
    for number in range(NUM):
        _picture(root / "images" / f"{number}.png", number)
    document = coco_document()
    path = _text(root / "annotations" / "instances_train.json", document)
    _text(root / "annotations" / "instances_val.json", document)

    def count() -> int:
        found = json.loads(path.read_text(encoding="utf-8"))
        return len(found["images"]) + len(found["annotations"])

    return Small(root, "train", [path], count)


def coco_document() -> str:
    """Annotations of three pictures."""
    runs = {"size": [10, 12], "counts": [15, 5, 100]}
    shapes: Sequence[Any] = ([[1, 1, 6, 1, 6, 7, 1, 7]], runs, {"size": [10, 12], "counts": "?5T3"}, [])
    images = [{"id": i, "file_name": f"{i}.png", "height": 10, "width": 12} for i in range(NUM)]
    annotations = [
        {"id": i, "image_id": i % 3, "category_id": 1 + i % 2, "bbox": [1, 1, 5, 6], "segmentation": shapes[i % 4], "iscrowd": int(i == 5)} for i in range(6)
    ]
    return json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]})


def voc(root: Path) -> Small:
    """Two objects a picture, one of them difficult in one; masks."""
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>8</xmax><ymax>9</ymax></bndbox>"
    files = []
    for number in range(NUM + 1):
        _picture(root / "JPEGImages" / f"{number}.jpg", number % NUM)
        objects = "".join(f"<object><name>{name}</name><difficult>{int(number == 1)}</difficult>{box}</object>" for name in ("car", "dog"))
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        files.append(_text(root / "Annotations" / f"{number}.xml", f"<annotation><filename>{number}.jpg</filename>{size}{objects}</annotation>"))
        _array(root / "SegmentationClass" / f"{number}.png", np.full((HEIGHT, WIDTH), 7, np.uint8))
    names = _text(root / "ImageSets" / "Main" / "train.txt", "".join(f"{number}\n" for number in range(NUM)))
    _text(root / "ImageSets" / "Main" / "val.txt", f"{NUM}\n")

    def count() -> int:
        lines = names.read_text(encoding="utf-8", errors="replace").splitlines()
        listed = dict.fromkeys(line.split()[0] for line in lines if line.strip() and line.split()[0] != str(NUM))
        return sum(1 + _num_objects(root / "Annotations" / f"{name}.xml") for name in listed)

    return Small(root, "train", [*files[:NUM], names], count)


def _num_objects(file: Path) -> int:
    """Of an annotation that can be read; else it counts as one thing, with its picture."""
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except (OSError, ValueError, LookupError, ElementTree.ParseError):
        return 0
    return len(root.findall("object")) if root.tag == "annotation" else 0


def pets(root: Path) -> Small:
    """Two breeds, with trimaps and both lists."""
    lines = [f"{breed}_{number} {1 + breed.islower()} 1 1\n" for number in range(NUM) for breed in ("Bengal", "pug")]
    for number, line in enumerate(lines):
        _picture(root / "images" / f"{line.split()[0]}.jpg", number % NUM)
        _array(root / "annotations" / "trimaps" / f"{line.split()[0]}.png", np.arange(120, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 3 + 1)
    lists = [_text(root / "annotations" / name, "#Image CLASS-ID\n" + "".join(lines)) for name in ("trainval.txt", "test.txt")]

    def count() -> int:
        every = lists[1].read_text(encoding="utf-8", errors="replace").splitlines()
        return sum(bool(line.strip()) and not line.startswith("#") for line in every)

    return Small(root, "test", [*lists, root / "annotations" / "trimaps" / "pug_0.png"], count)


def image_masks(root: Path) -> Small:
    """Masks of two classes with names."""
    for split in ("train", "val"):
        for number in range(NUM):
            _picture(root / "images" / split / f"{number}.png", number)
            _array(root / "masks" / split / f"{number}.png", np.arange(120, dtype=np.uint8).reshape(HEIGHT, WIDTH) % 3)
    names = _text(root / "classes.txt", "background\ncar\ndog\n")
    return Small(root, "train", [names, *(root / "masks" / "train" / f"{number}.png" for number in range(NUM))], lambda: NUM)


def depth_pairs(root: Path) -> Small:
    """Three pictures of a room with their depth."""
    for split in ("train", "val"):
        for number in range(NUM):
            _picture(root / split / "bath_0001" / f"rgb_{number}.jpg", number)
            _array(root / split / "bath_0001" / f"sync_depth_{number}.png", np.full((HEIGHT, WIDTH), 900, np.uint16))
    return Small(root, "train", sorted((root / "train" / "bath_0001").iterdir()), lambda: NUM)


def image_folder(root: Path) -> Small:
    """A picture of each class."""
    files = [_picture(root / split / name / "0.png", number) for split in ("train", "val") for number, name in enumerate("abc")]
    return Small(root, "train", files[:NUM], lambda: NUM)


def idx(root: Path) -> Small:
    """Eight pictures of three classes, in plain files."""
    root.mkdir(parents=True, exist_ok=True)
    files = []
    for stem in ("train", "t10k"):
        labels = np.arange(8, dtype=np.uint8) % 3
        for what, array in (("images-idx3", np.full((8, 4, 4), 9, np.uint8)), ("labels-idx1", labels)):
            files.append(root / f"{stem}-{what}-ubyte")
            files[-1].write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes())
    return Small(root, "test", [*files[2:], _text(root / "classes.txt", "a\nb\nc\n")], lambda: files[3].stat().st_size - 8)


def cifar(root: Path) -> Small:
    """Three pictures a file."""
    root.mkdir(parents=True, exist_ok=True)
    files = [root / "data_batch_1.bin", root / "test_batch.bin"]
    for file in files:
        file.write_bytes((bytes([2]) + bytes(3072)) * NUM)
    names = _text(root / "batches.meta.txt", "a\nb\nc\n")
    return Small(root, "test", [files[1], names], lambda: -(-files[1].stat().st_size // 3073))


def pictures(root: Path) -> Small:
    """Twelve, of which two are val; a damaged one may change which."""
    files = [_array(root / f"{number}.png", np.full((HEIGHT, WIDTH), 20 * number, np.uint8)) for number in range(4 * NUM)]
    return Small(root, "train", files[:NUM], lambda: len(of_split(files, "train", lambda file: file)))


def arrow(root: Path) -> Small:
    """Three files of two pictures, a row a group, so that some may be whole where others are damaged; one that is damaged throughout names one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = [_png(number) for number in range(2 * NUM)]
    files = [root / f"test-{number}.parquet" for number in range(NUM)]
    root.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate([*files, root / "train.parquet"]):
        some = [{"bytes": content, "path": None} for content in contents[2 * (number % NUM) :][:2]]
        pq.write_table(pa.table({"image": some, "label": [number % NUM, 0]}), file, row_group_size=1)

    def num_rows(file: Path) -> int:
        try:
            return int(pq.read_metadata(file).num_rows)
        except Exception:  # damaged files raise almost anything
            return 1

    return Small(root, "test", files, lambda: sum(map(num_rows, files)))


def _png(number: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (40 * number, 10, 10)).save(content, "PNG")
    return content.getvalue()


def table(root: Path) -> Small:
    """Pictures of one class, of two, and of which nothing is known; one stands in two rows."""
    files = [_picture(root / "images" / f"{number}.png", number) for number in range(NUM)]
    rows = [f"{name}.png,{held},test\n" for name, held in (("0", "cat"), ("1", "cat|dog"), ("2", ""), ("1", "bird"))]
    document = _text(root / "labels.csv", "".join(["file_name,labels,split\n", *rows]))

    def count() -> int:
        text = document.read_text(encoding="utf-8-sig")
        every = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=text.partition("\n")[0].count))
        return len({row[0].strip() for row in list(every)[1:] if row})

    return Small(root, "test", [document, *files], count)


FOLDERS: Mapping[str, Callable[[Path], Small]] = {
    "coco": coco,
    "voc": voc,
    "pets": pets,
    "image-masks": image_masks,
    "depth-pairs": depth_pairs,
    "idx": idx,
    "cifar": cifar,
    "arrow": arrow,
    "table": table,
    "image-folder": image_folder,
    "pictures": pictures,
}
"""By layout, as in `datasets/folders.py`."""
