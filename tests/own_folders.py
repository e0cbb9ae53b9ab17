"""Folders as a user might have them: coloured discs sorted by class, coloured rectangles with boxes or masks, and small pictures in one file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"blue": (40, 60, 220), "green": (30, 200, 60), "red": (220, 40, 30)}


def write_photos(root: Path, per_class: int) -> Path:
    """ROOT/CLASS/N.png, 24 x 20 px, and two mistakes: a damaged picture and a note."""
    rng = random.Random(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            image = Image.new("RGB", (24, 20), (rng.randrange(60),) * 3)
            x, y = rng.randrange(12), rng.randrange(10)
            ImageDraw.Draw(image).ellipse((x, y, x + 11, y + 9), fill=colour)
            image.save(root / name / f"{number}.png")
    (root / "red" / "broken.jpg").write_text("not a picture")
    (root / "green" / "notes.txt").write_text("not a picture either")
    return root


def write_table(root: Path, *, num: int = 40) -> Path:
    """labels.csv with a column of 0 and 1 for each colour; pictures of 24 x 20 px hold up to three discs, or none."""
    rng = random.Random(0)
    (root / "images").mkdir(parents=True)
    rows = [",".join(("file_name", *COLOURS))]
    for number in range(num):
        image, held = Image.new("RGB", (24, 20), (rng.randrange(60),) * 3), [rng.random() < 0.4 for _ in COLOURS]
        for place, colour in enumerate(COLOURS.values()):
            if held[place]:
                x, y = 8 * place, rng.randrange(12)
                ImageDraw.Draw(image).ellipse((x, y, x + 7, y + 7), fill=colour)
        image.save(root / "images" / f"{number}.png")
        rows.append(",".join((f"{number}.png", *(str(int(here)) for here in held))))
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def write_boxes(root: Path, *, num_train: int = 24, num_val: int = 12, most: int = 6, masks: bool = False) -> Path:
    """COCO json with gaps in its ids, pictures of 32 x 24 px with 1 to `most` rectangles, and two mistakes in train."""
    rng = random.Random(0)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for split, num in (("train", num_train), ("val", num_val)):
        images, annotations = [], []
        for number in range(num):
            name = f"{split}_{number}.png"
            picture = Image.new("RGB", (32, 24), (20, 20, 20))
            for _ in range(most if number == 0 else rng.randrange(1, most + 1)):
                category, x, y = rng.randrange(2), rng.randrange(24), rng.randrange(18)
                ImageDraw.Draw(picture).rectangle((x, y, x + 7, y + 5), fill=list(COLOURS.values())[category])
                entry = {"id": len(annotations), "image_id": number, "category_id": 3 + 2 * category, "bbox": [x, y, 8, 6]}
                annotations.append(entry | ({"segmentation": [[x, y, x + 8, y, x + 8, y + 6, x, y + 6]]} if masks else {}))
            images.append({"id": number, "file_name": name, "width": 32, "height": 24})
            picture.save(root / "images" / name)
        if split == "train":
            annotations += [
                {"id": 900, "image_id": 1, "category_id": 9, "bbox": [1, 1, 4, 4]},
                {"id": 901, "image_id": 1, "category_id": 3, "bbox": [28, 20, 20, 20]},
            ]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "blue"}, {"id": 5, "name": "green"}]}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def write_rooms(root: Path, *, per_scene: int = 3) -> Path:
    """SCENE/rgb_N.jpg with SCENE/sync_depth_N.png, 32 x 24 px: the bath is dark and 1 m away, the kitchen light and 2 m; the left tenth is unknown."""
    rng = random.Random(0)
    for name, metres, shade in (("bath_0001", 1, 60), ("bath_0002a", 1, 60), ("kitchen_0001", 2, 180), ("kitchen_0002", 2, 180)):
        (root / name).mkdir(parents=True)
        for number in range(per_scene):
            Image.new("RGB", (32, 24), (shade + rng.randrange(40),) * 3).save(root / name / f"rgb_{number}.jpg")
            depth_mm = np.full((24, 32), 1000 * metres, np.uint16)
            depth_mm[:, :4] = 0
            Image.fromarray(depth_mm).save(root / name / f"sync_depth_{number}.png")
    return root


def _rectangle(rng: random.Random) -> tuple[Image.Image, int, tuple[int, int, int, int]]:
    """A picture of 32 x 24 px with one rectangle, its class (0 blue, 1 green), and its first and last pixel (x0, y0, x1, y1)."""
    picture = Image.new("RGB", (32, 24), (rng.randrange(40),) * 3)
    label, x, y = rng.randrange(2), rng.randrange(24), rng.randrange(18)
    ImageDraw.Draw(picture).rectangle((x, y, x + 7, y + 5), fill=list(COLOURS.values())[label])
    return picture, label, (x, y, x + 7, y + 5)


def _mask(box: tuple[int, int, int, int], inside: int, outside: int) -> Image.Image:
    mask = Image.new("L", (32, 24), outside)
    ImageDraw.Draw(mask).rectangle(box, fill=inside)
    return mask


def write_masks(root: Path, *, num: int = 20, names: str = "background\nblue\ngreen\n") -> Path:
    """images/N.png and masks/N.png: index 1 blue, 2 green, each with a left column that is ignored; classes.txt unless `names` is empty."""
    rng = random.Random(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(num):
        picture, label, box = _rectangle(rng)
        mask = _mask(box, label + 1, 0)
        mask.paste(255, (0, 0, 2, 24))
        picture.save(root / "images" / f"{number}.png")
        mask.save(root / "masks" / f"{number}.png")
    if names:
        (root / "classes.txt").write_text(names)
    return root


def write_voc(root: Path, *, num: int = 20, masks: bool = False) -> Path:
    """JPEGImages/N.jpg and Annotations/N.xml with one car or dog each; the last quarter is val; VOC's own indices in masks."""
    rng = random.Random(0)
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", *(["SegmentationClass"] if masks else [])):
        (root / folder).mkdir(parents=True)
    for number in range(num):
        picture, label, box = _rectangle(rng)
        picture.save(root / "JPEGImages" / f"{number}.jpg")
        corners = "".join(f"<{name}>{value + 1}</{name}>" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        entry = f"<object><name>{('car', 'dog')[label]}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object>"
        size = "<size><width>32</width><height>24</height><depth>3</depth></size>"
        (root / "Annotations" / f"{number}.xml").write_text(f"<annotation><filename>{number}.jpg</filename>{size}{entry}</annotation>")
        if masks:
            _mask(box, (7, 12)[label], 0).save(root / "SegmentationClass" / f"{number}.png")
    for split, numbers in (("train", range(num * 3 // 4)), ("val", range(num * 3 // 4, num))):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{number}\n" for number in numbers))
    return root


def write_pets(root: Path, *, num: int = 24) -> Path:
    """images/BREED_N.jpg, a trimap each, trainval.txt and test.txt in halves."""
    rng, lines = random.Random(0), []
    for folder in ("images", "annotations/trimaps"):
        (root / folder).mkdir(parents=True)
    for number in range(num):
        picture, label, box = _rectangle(rng)
        name = f"{('Bengal', 'pug')[label]}_{number}"
        trimap = _mask(box, 1, 2)
        trimap.paste(3, (0, 0, 32, 1))
        picture.save(root / "images" / f"{name}.jpg")
        trimap.save(root / "annotations" / "trimaps" / f"{name}.png")
        lines.append(f"{name} {label + 1} {label + 1} 1\n")
    (root / "annotations" / "trainval.txt").write_text("".join(lines[: num // 2]))
    (root / "annotations" / "test.txt").write_text("".join(lines[num // 2 :]))
    return root


def write_digits(root: Path, *, num: int = 40) -> Path:
    """The four files of MNIST, 12 x 12 px: class k is a bar at row k."""
    root.mkdir(parents=True)
    for stem, many in (("train", num), ("t10k", num // 2)):
        labels = np.arange(many, dtype=np.uint8) % 10
        pixels = np.zeros((many, 12, 12), np.uint8)
        pixels[np.arange(many), labels] = 100 + np.arange(many, dtype=np.uint8)[:, None]
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            (root / f"{stem}-{name}-ubyte").write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes())
    return root


def write_cifar(root: Path, *, num: int = 30) -> Path:
    """Two batches, one test batch and the names, of CIFAR-10's binary version: class k has red = 20 k, green = 10."""
    root.mkdir(parents=True)
    for file, seed in (("data_batch_1.bin", 0), ("data_batch_2.bin", 1), ("test_batch.bin", 2)):
        records = np.zeros((num, 3073), np.uint8)
        records[:, 0] = np.arange(num) % 10
        records[:, 1:1025] = 20 * records[:, :1]
        records[:, 1025:2049] = 10
        records[:, 2049:] = np.random.default_rng(seed).integers(0, 256, (num, 1024))
        (root / file).write_bytes(records.tobytes())
    (root / "batches.meta.txt").write_text("\n".join(f"thing{number}" for number in range(10)) + "\n\n")
    return root


def write_plain(root: Path, *, num: int = 20) -> Path:
    """Pictures without labels."""
    rng = random.Random(5)
    root.mkdir(parents=True)
    for number in range(num):
        _rectangle(rng)[0].save(root / f"{number}.jpg")
    return root
