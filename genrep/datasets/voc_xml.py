"""Pascal VOC's annotation files: xml in which nothing can be declared, and what it says of a picture, checked object by object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers.expat import ExpatError, ParserCreate

from genrep.datasets.coco_masks import numbers
from genrep.datasets.objects import Entry
from genrep.datasets.problems import Problems

MOST_BYTES = 8_000_000
"""Of the annotations of one picture."""
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Found:
    """One object of a picture."""

    where: str
    class_name: str
    bbox: list[float]
    """x, y, width, height in pixels from 0 on; the file counts from 1, and both ends belong to the box."""
    is_difficult: bool

    def entry(self, label: int) -> Entry:
        """The object as one of a class."""
        return Entry(self.where, label, self.bbox, None, self.is_difficult)


@dataclass(frozen=True)
class Annotation:
    """What a file says of its picture."""

    file: Path
    picture: str | None
    """Its name, where it is said."""
    announced: tuple[int | None, int | None]
    """(height, width)."""
    objects: tuple[Found, ...]
    num_lost: int = 0
    """Further ones, which cannot be used."""


def parse_xml(file: Path) -> Element:
    """The root of an xml file that declares nothing.

    Raises:
        ValueError: not xml, larger than MOST_BYTES, or it has a document type, which could declare entities.
    """
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"is larger than {MOST_BYTES:,} bytes")
    builder, parser = TreeBuilder(), ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(file.read_bytes(), True)
        return builder.close()
    except (ExpatError, ParseError, LookupError, UnicodeError, AssertionError) as error:
        raise ValueError(f"is not valid xml ({' '.join(str(error).split()) or type(error).__name__})") from error


def _refuse(*_: object) -> NoReturn:
    raise ValueError("declares a document type or entities, which annotations need not; refused")


def read_annotation(file: Path, problems: Problems) -> Annotation | None:
    """What a file says; None if it says nothing that can be used, which is reported.

    Raises:
        ValueError: with strict problems the first one.
    """
    try:
        root = parse_xml(file)
        if root.tag != "annotation":
            raise ValueError(f"is no annotation; expected <annotation>, found <{root.tag[:40]}>")
    except (ValueError, OSError) as error:
        problems.drop(file.name, str(error))
        return None
    objects, num_lost = [], 0
    for number, element in enumerate(root.iterfind("object"), 1):
        where = f"{file.name} object {number}"
        try:
            objects.append(_object(where, element))
        except ValueError as error:
            problems.drop(where, str(error))
            num_lost += 1
    return Annotation(file, _text(root, "filename"), (_announced(root, "height"), _announced(root, "width")), tuple(objects), num_lost)


def _object(where: str, element: Element) -> Found:
    name = _text(element, "name")
    if name is None:
        raise ValueError("needs a `name`, the class")
    x0, y0, x1, y1 = (_number(element.findtext(f"bndbox/{corner}"), corner) for corner in CORNERS)
    if x1 < x0 or y1 < y0:
        raise ValueError(f"`bndbox` must have xmin <= xmax and ymin <= ymax; found {x0:g}, {y0:g}, {x1:g}, {y1:g}")
    return Found(where, name, [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1], _text(element, "difficult") not in (None, "0"))


def _number(text: str | None, what: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise ValueError(f"`{what}` must be a number; found {' '.join((text or 'nothing').split())[:40]}") from None
    return numbers([value], f"`{what}`")[0]


def _announced(root: Element, what: str) -> int | None:
    """A side of the picture; 0, as some tools write, says nothing."""
    text = _text(root, f"size/{what}") or ""
    return int(text) or None if text.isascii() and text.isdigit() and len(text) < 10 else None


def _text(element: Element, path: str) -> str | None:
    return " ".join((element.findtext(path) or "").split()) or None
