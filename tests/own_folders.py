"""Folders as a user might have them: coloured discs sorted by class, and coloured rectangles with COCO boxes, each with a few mistakes."""

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
