"""Words in pictures: a font that comes with the package, names that it can write, and names cut so that they fit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont

FONT_PATH = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
FIGURES = re.compile(r" (\d?\.\d\d|x \d+)$")
"""A score, or a number of objects, at the end of a tag."""


@cache
def font(size_px: int) -> Font:
    """The font of all pictures, the same on every machine."""
    return ImageFont.truetype(FONT_PATH, size_px, layout_engine=ImageFont.Layout.BASIC)


def legible(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes as they stand in pictures: `class k`, counted from 0, where the font lacks a letter of the k-th.

    >>> legible(("Bücher", "猫", "犬"))
    ('Bücher', 'class 1', 'class 2')
    """
    whole = [unicodedata.normalize("NFC", name) for name in names]
    return tuple(name if written(name) == name else f"class {k}" for k, name in enumerate(whole))


def written(text: str) -> str:
    """Text as it can be drawn: what the font lacks is its code point, so that different texts stay so.

    >>> written("Ελιά → χυμός"), written("猫"), written("犬")
    ('Ελιά → χυμός', 'U+732B', 'U+72AC')
    """
    return "".join(sign if _has_glyph(sign) else f"U+{ord(sign):04X}" for sign in unicodedata.normalize("NFC", text))


def cut(text: str, of: Font, width_px: float) -> str:
    """Text that is at most so wide, if need be cut at its end, before its score or number.

    >>> cut("a name that is much too long .93", font(15), 100)
    'a nam… .93'
    """
    if of.getlength(text) <= width_px:
        return text
    figures = FIGURES.search(text)
    name, rest = (text[: figures.start()], figures[0]) if figures else (text, "")
    while name and of.getlength(f"{name}…{rest}") > width_px:
        name = name[:-1]
    return f"{name}…{rest}"


@cache
def _has_glyph(sign: str) -> bool:
    one = font(16)
    return sign.isprintable() and (sign == " " or bytes(one.getmask(sign)) != bytes(one.getmask("\uffff")))
