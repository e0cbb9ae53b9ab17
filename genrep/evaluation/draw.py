"""Pictures: grids of images, boxes and masks over an image, both enlarged so that pixels stay square and words stay sharp.

A picture is uint8 RGB, [h w 3]. Colours of classes are told apart by colour-blind people as far as ten colours allow; every
box also carries its name.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from genrep.evaluation.words import cut, font, legible, written

Picture = UInt8[np.ndarray, "_ _ 3"]
Box = tuple[float, float, float, float]

PALETTE = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (68, 119, 220),
    (170, 221, 136),
    (170, 68, 153),
    (110, 60, 255),
)
"""Okabe and Ito's colours without black, its dark blue lightened for dark ground, two of Tol's, and a violet; repeated beyond ten classes. None is grey,
as images may be."""

GROUND = (17, 20, 24)
INK = (228, 230, 234)
MASK_OPACITY = 0.45
CAPTION_PX, TAG_PX = 16, 13
MOST_NAME_PX = 400
"""The widest name beside a row."""
CROWDED = 8
"""Boxes, above which they are not named one by one."""
FOR, AGAINST = (255, 160, 20), (70, 150, 255)
"""What speaks for the first of two classes, and for the second."""


NEARNESS = ((24, 24, 60), (90, 40, 120), (200, 70, 90), (250, 160, 60), (252, 250, 190))
"""From far to near."""


def colour(label: int) -> tuple[int, int, int]:
    """Colour of a class."""
    return PALETTE[label % len(PALETTE)]


def to_picture(image: Float[Tensor, "3 h w"]) -> Picture:
    """Pixels in [-1, 1] as bytes."""
    pixels: Picture = image.detach().cpu().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels


def enlarged(picture: Picture, scale: int) -> Picture:
    """Each pixel as a square of `scale` pixels."""
    return picture.repeat(scale, 0).repeat(scale, 1)


def as_png(picture: Picture | Float[Tensor, "3 h w"]) -> bytes:
    """A picture, or an image in [-1, 1], as the content of a PNG file."""
    pixels, content = to_picture(picture) if isinstance(picture, Tensor) else picture, io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(content, format="PNG", optimize=True)
    return content.getvalue()


def save_png(picture: Picture | Float[Tensor, "3 h w"], path: Path) -> None:
    """Write a picture, or an image in [-1, 1], as PNG."""
    path.write_bytes(as_png(picture))


def data_uri(png: Path | bytes) -> str:
    """A PNG file, or its content, as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png if isinstance(png, bytes) else png.read_bytes()).decode("ascii")


def scale_for(size: Sequence[int], wanted_px: int) -> int:
    """By how much to enlarge an image of (height, width) so that its longer side is about `wanted_px`.

    >>> scale_for((32, 32), 256), scale_for((96, 128), 256), scale_for((512, 512), 256)
    (8, 2, 1)
    """
    return max(1, round(wanted_px / max(size)))


def grid(images: Float[Tensor, "n 3 h w"], *, columns: int, scale: int | None = None, gap_px: int = 3, row_names: Sequence[str] = ()) -> Picture:
    """Images row by row on a dark ground, rows named on the left where names are given; enlarged to about 96 px by default."""
    scale = scale or scale_for(images.shape[-2:], 96)
    cells = [enlarged(to_picture(image), scale) for image in images]
    return tile(cells, columns=columns, gap_px=gap_px, row_names=row_names)


def tile(cells: Sequence[Picture], *, columns: int, gap_px: int = 8, row_names: Sequence[str] = (), column_names: Sequence[str] = ()) -> Picture:
    """Pictures of equal size row by row on a dark ground, with names beside rows and above columns."""
    height, width = cells[0].shape[:2]
    letters = font(max(11, min(16, height // 7)))
    row_names = [cut(written(name), letters, MOST_NAME_PX) for name in row_names]
    left = gap_px + (round(max(letters.getlength(name) for name in row_names)) + 2 * gap_px + 6 if row_names else 0)
    top = gap_px + (26 if column_names else 0)
    num_rows = -(-len(cells) // columns)
    sheet = np.full((top + num_rows * (height + gap_px), left + columns * (width + gap_px), 3), GROUND, np.uint8)
    for place, cell in enumerate(cells):
        y, x = top + place // columns * (height + gap_px), left + place % columns * (width + gap_px)
        sheet[y : y + height, x : x + width] = cell
    page = Image.fromarray(sheet)
    pen = ImageDraw.Draw(page)
    for row, name in enumerate(row_names):
        pen.text((left - gap_px - 6, top + row * (height + gap_px) + height / 2), name, INK, letters, anchor="rm")
    for column, name in enumerate(column_names):
        pen.text((left + column * (width + gap_px) + width / 2, top / 2), written(name), INK, letters, anchor="mm")
    return np.asarray(page)


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What is known or believed of an image, for drawing."""

    boxes_xyxy_px: Float[Tensor, "n 4"] = field(default_factory=lambda: torch.zeros(0, 4))
    labels: Sequence[int] = ()
    scores: Sequence[float] | None = None
    semantic_mask: UInt8[Tensor, "h w"] | None = None
    """0 background, c + 1 class c, anything without a class left alone."""


def scene(image: Float[Tensor, "3 h w"], annotation: Annotation, class_names: Sequence[str], *, scale: int | None = None) -> Picture:
    """An image with its mask as a tint, its boxes as outlines, and a name (and score) at each box, of many at one of each class; about 256 px by default."""
    scale = scale or scale_for(image.shape[-2:], 256)
    picture = to_picture(image)
    if annotation.semantic_mask is not None:
        picture = _tinted(picture, annotation.semantic_mask, len(class_names))
    page = Image.fromarray(enlarged(picture, scale))
    pen = ImageDraw.Draw(page)
    boxes = [_fitted(box, scale, page.size) for box in annotation.boxes_xyxy_px.tolist()]
    for box, label in zip(boxes, annotation.labels, strict=True):
        pen.rectangle(_grown(box, 1), outline=(0, 0, 0), width=4)
        pen.rectangle(box, outline=colour(label), width=2)
    tags = _tags(annotation, legible(class_names))
    _write_names(page, [boxes[i] for i in tags], list(tags.values()), [annotation.labels[i] for i in tags])
    return np.asarray(page)


def scored(name: str, score: float) -> str:
    """A class and how sure it is, 0 to 1, as it is written into pictures.

    >>> scored("boot", 0.934), scored("bag", 1.0)
    ('boot .93', 'bag 1.00')
    """
    return f"{name} {score:.2f}".replace(" 0.", " .")


def captioned(picture: Picture, words: Sequence[str]) -> Picture:
    """A picture with words below it, in as many lines as they need; what is too long for a line is cut."""
    letters, width = font(CAPTION_PX - 2), picture.shape[1]
    lines: list[str] = []
    for word in (cut(written(word), letters, width - CAPTION_PX) for word in words):
        longer = f"{lines[-1]}, {word}" if lines else word
        lines = [*lines[:-1], longer] if letters.getlength(longer) + CAPTION_PX < width or not lines else [*lines, word]
    strip = Image.new("RGB", (width, round(1.5 * CAPTION_PX * len(lines)) + CAPTION_PX // 2), GROUND)
    for row, line in enumerate(lines):
        ImageDraw.Draw(strip).text((CAPTION_PX / 2, (1.5 * row + 1) * CAPTION_PX), line, INK, letters, anchor="lm")
    return np.concatenate([picture, np.asarray(strip)])


def levelled(pictures: Sequence[Picture]) -> list[Picture]:
    """Pictures of one width as high as the highest, on the ground of a page."""
    height = max(len(picture) for picture in pictures)
    grounds = [np.full((height - len(picture), *picture.shape[1:]), GROUND, np.uint8) for picture in pictures]
    return [np.concatenate(pair) for pair in zip(pictures, grounds, strict=True)]


def _tags(annotation: Annotation, class_names: Sequence[str]) -> dict[int, str]:
    """What is written at which box: its class and score; of many boxes the first one of each class has their number: names would hide the image."""
    labels, scores = list(annotation.labels), annotation.scores
    if len(labels) > CROWDED:
        return {labels.index(label): f"{class_names[label]} x {labels.count(label)}" for label in sorted(set(labels))}
    return {i: class_names[label] if scores is None else scored(class_names[label], scores[i]) for i, label in enumerate(labels)}


def nearness(inv_depth: Float[Tensor, "h w"], *, scale: int | None = None) -> Picture:
    """A map of inverse depth, from its farthest pixel, dark, to its nearest, light; what is unknown is as the ground of a page."""
    values = inv_depth.cpu().double()
    known = values.isfinite()
    low, high = (float(end) for end in values[known].aminmax()) if bool(known.any()) else (0.0, 1.0)
    place = ((values - low) / max(high - low, 1e-9)).nan_to_num().clamp(0, 1).numpy() * (len(NEARNESS) - 1)
    channels = [np.interp(place, range(len(NEARNESS)), channel) for channel in zip(*NEARNESS, strict=True)]
    picture = np.where(known.numpy()[..., None], np.stack(channels, -1).round(), GROUND).astype(np.uint8)
    return enlarged(picture, scale or scale_for(inv_depth.shape, 256))


def why(image: Float[Tensor, "3 h w"], evidence: Float[Tensor, "h w"], pair: tuple[int, int], class_names: Sequence[str]) -> Picture:
    """An image, about 256 px, and beside it, darker, what speaks for the first of two classes and for the second, the more the less transparent."""
    picture, scale = to_picture(image), scale_for(image.shape[-2:], 256)
    values = evidence.cpu().numpy()
    opacity = np.sqrt(np.abs(values) / max(float(np.abs(values).max()), 1e-12))[..., None]
    tint = np.where(values[..., None] > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    dimmed = picture * 0.4
    mixed = (dimmed * (1 - opacity) + tint * opacity).round().astype(np.uint8)
    page = Image.fromarray(tile([enlarged(picture, scale), enlarged(mixed, scale)], columns=2, column_names=("", "")))
    pen, letters, middle = ImageDraw.Draw(page), font(TAG_PX), " against "
    room = (page.width - letters.getlength(middle)) / 2 - 8
    first, second = (cut(legible(class_names)[label], letters, room) for label in pair)
    width = letters.getlength(first + middle + second)
    left = min(page.width * 3 / 4 - width / 2, page.width - width - 8)
    for text, ink in ((first, FOR), (middle, INK), (second, AGAINST)):
        pen.text((left, 17), text, ink, letters, anchor="lm")
        left += letters.getlength(text)
    return np.asarray(page)


def _tinted(picture: Picture, mask: Tensor, num_classes: int) -> Picture:
    colours = np.array([colour(label) for label in range(num_classes)], np.float32)
    values = mask.cpu().numpy().astype(np.int64)
    inside = (values >= 1) & (values <= num_classes)
    tint = colours[np.where(inside, values - 1, 0)]
    mixed = picture * (1 - MASK_OPACITY) + tint * MASK_OPACITY
    return np.where(inside[..., None], mixed.round(), picture).astype(np.uint8)


def _fitted(box: Sequence[float], scale: int, size: tuple[int, int]) -> Box:
    """A box in picture pixels, inside the picture, at least a line wide."""
    x0, y0, x1, y1 = (value * scale for value in box)
    x0, y0 = min(max(x0, 1), size[0] - 6), min(max(y0, 1), size[1] - 6)
    return x0, y0, max(x0 + 4, min(x1, size[0]) - 2), max(y0 + 4, min(y1, size[1]) - 2)


def _grown(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _write_names(page: Image.Image, boxes: Sequence[Box], texts: Sequence[str], labels: Sequence[int]) -> None:
    """Name tags at the corners of the boxes, where they cover each other least."""
    pen, letters = ImageDraw.Draw(page), font(TAG_PX)
    taken: list[Box] = []
    width, height = page.size
    for box, text, label in zip(boxes, texts, labels, strict=True):
        text = cut(text, letters, width - 8)
        w, h = letters.getlength(text) + 8, 19.0
        left, right = min(max(0.0, box[0] - 1), width - w), min(max(0.0, box[2] + 1 - w), width - w)
        places = [(x, y) for y in (box[1] - h, box[3] + 2, box[1], box[3] - h) for x in (left, right) if 0 <= y <= height - h]
        tags = [(x, y, x + w, y + h) for x, y in places]
        tag = min(tags, key=lambda t: sum(_shared_area(t, other) for other in taken))
        taken.append(tag)
        pen.rectangle(tag, fill=colour(label))
        pen.text((tag[0] + 4, tag[1] + h / 2), text, _ink_on(colour(label)), letters, anchor="lm")


def _shared_area(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _ink_on(ground: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better."""
    return (0, 0, 0) if 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2] > 110 else (255, 255, 255)
