"""Damaged data to try readers with, a small folder of every layout and pictures of every format, and requests to try a server with: values, words or bytes are
changed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genrep.datasets import read_folder
from genrep.datasets.depth_pairs import read_inv_depth
from genrep.datasets.images import read_picture
from genrep.evaluation.small_folders import FOLDERS

SIZE = (16, 16)
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**40,
    1.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../x",
    [],
    {},
    [1, 2],
    {"counts": "x", "size": [1, 1]},
    "9" * 400,
)


def of_documents(layout: str, folder: Path, rng: random.Random) -> Iterator[Callable[[], int]]:
    """Reads of a folder in one layout, one of whose files was changed; each says how many things vanished: neither kept nor said to be dropped."""
    small = FOLDERS[layout](folder / layout)
    originals = {path: path.read_bytes() for path in small.documents}
    while True:
        path, data = rng.choice(list(originals.items()))
        path.write_bytes(_mutated(path, data, rng))
        yield partial(_vanished, small.root, small.split, small.count)
        path.write_bytes(data)


def _vanished(root: Path, split: str, count: Callable[[], int]) -> int:
    data, problems = read_folder(root, split, image_size=SIZE)
    kept = len(data) + int((data.object_labels >= 0).sum())
    return abs(count() - kept - sum(problem.num_dropped for problem in problems))


def _mutated(path: Path, data: bytes, rng: random.Random) -> bytes:
    """Values or words changed, of a text; or bytes."""
    if path.suffix not in (".json", ".xml", ".txt", ".csv") or rng.random() > 0.6:
        return _spoilt(data, rng)
    return (_altered if path.suffix == ".json" else _retold)(data.decode(), rng).encode()


def _retold(text: str, rng: random.Random) -> str:
    """The text with one to three of its words replaced, removed or doubled."""
    pieces = re.split(r"([^<>\s/,]+)", text)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(1, len(pieces), 2)
        pieces[place] = rng.choice(("", f"{pieces[place]} {pieces[place]}", *(str(junk) for junk in JUNK)))
    return "".join(pieces)


def _altered(document: str, rng: random.Random) -> str:
    """The document with one to three of its values replaced, removed or doubled."""
    found = json.loads(document)
    for _ in range(rng.randint(1, 3)):
        if not (places := list(_places(found))):
            break
        parent, key = rng.choice(places)
        if isinstance(parent, list) and rng.random() < 0.2:
            parent.append(parent[key])
        elif rng.random() < 0.3:
            del parent[key]
        else:
            parent[key] = rng.choice(JUNK)
    return json.dumps(found)


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()):
        yield node, key
        yield from _places(value)


def _spoilt(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, a piece removed or doubled, or the end cut off."""
    found = bytearray(data)
    kind, start = rng.randrange(4), rng.randrange(len(found))
    piece = found[start : start + rng.randint(1, 64)]
    if kind == 0:
        del found[start:]
    elif kind == 1:
        found[start:start] = piece
    elif kind == 2:
        del found[start : start + len(piece)]
    for _ in range(rng.randint(1, 8) if kind == 3 else 0):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


def of_pictures(folder: Path, rng: random.Random) -> Iterator[Callable[[], object]]:
    """Reads of pictures, of every format, and of depth maps whose bytes were mutated."""
    noise = np.random.default_rng(0)
    colours = Image.fromarray(noise.integers(0, 256, (20, 24, 3), np.uint8))
    originals: list[tuple[Path, bytes]] = []
    for name, picture, options in (
        ("a.jpg", colours, {}),
        ("b.jpg", colours, {"progressive": True, "exif": _sideways()}),
        ("a.png", colours, {}),
        ("b.png", colours.convert("P"), {"transparency": 0}),
        ("a.webp", colours, {}),
        ("a.bmp", colours, {}),
        ("depth.png", Image.fromarray(noise.integers(0, 9000, (20, 24), np.uint16)), {}),
    ):
        path = folder / name
        picture.save(path, **options)
        originals.append((path, path.read_bytes()))
    while True:
        path, data = rng.choice(originals)
        path.write_bytes(_spoilt(data, rng))
        yield partial(read_inv_depth, path, SIZE, own=(20, 24)) if path.stem == "depth" else partial(read_picture, path, SIZE, 3)


def of_requests(good: Sequence[bytes], rng: random.Random) -> Iterator[bytes]:
    """HTTP requests of which a value of the json that they send was changed, a word of what comes before it, or any bytes."""
    while True:
        head, end, body = rng.choice(good).partition(b"\r\n\r\n")
        kind = rng.random()
        if kind < 0.4 and body.startswith(b"{"):
            body = _altered(body.decode(), rng).encode()
            yield re.sub(rb"(?i)(content-length:) *\d+", rb"\1 %d" % len(body), head) + end + body
        elif kind < 0.7:
            yield _retold(head.decode(), rng).encode() + end + body
        else:
            yield _spoilt(head + end + body, rng)


def _sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif
