"""Words in pictures: letters of many languages, names that stay apart where a letter is missing, and scores that stay readable."""

from __future__ import annotations

import pytest
import torch

from genrep.evaluation.draw import Annotation, captioned, colour, scene, why
from genrep.evaluation.words import FONT_PATH, cut, font, legible, written

IMAGE = torch.zeros(3, 32, 32)


@pytest.mark.parametrize("text", ["äöüß éåø šžłőğ", "€ \u2013 — \u2019 “ ” …", "Ёлка, їжак", "Ελιά", "tiếng Việt"])
def test_letters_of_europe_are_drawn_each_with_its_own_shape(text: str) -> None:
    letters = {letter for letter in text if letter != " "}
    shapes = {bytes(font(24).getmask(letter)) for letter in letters} | {bytes(font(24).getmask("猫"))}
    assert written(text) == text and len(shapes) == len(letters) + 1


def test_letters_and_their_marks_are_one() -> None:
    """As file systems of a Mac keep them."""
    assert legible(["Bu\u0308cher"]) == ("Bücher",)


def test_names_that_cannot_be_drawn_stay_apart() -> None:
    assert legible(["Bücher", "猫", "犬", "a\nb", "🙂"]) == ("Bücher", "class 1", "class 2", "class 3", "class 4")
    assert written("猫") != written("犬")


def test_the_font_has_its_licence_beside_it_and_is_small() -> None:
    assert "Bitstream Vera" in FONT_PATH.with_name("LICENSE").read_text(encoding="utf-8")
    assert FONT_PATH.stat().st_size < 200_000 and font(12).getname()[0] == "DejaVu Sans"


def test_long_names_are_cut_at_their_end_before_the_score() -> None:
    text = cut("a very long name of a class, in words .93", font(13), 150)
    assert text.startswith("a very long") and text.endswith("… .93") and font(13).getlength(text) <= 150
    assert cut("class .93", font(13), 150) == "class .93"
    assert cut("many words of a class x 12", font(13), 120).endswith("… x 12")


def test_a_tag_begins_with_its_name_whatever_its_length() -> None:
    """The first letters of a long name are those of a short one, in the same place."""
    box = Annotation(boxes_xyxy_px=torch.tensor([[0.0, 8.0, 30.0, 28.0]]), labels=[0], scores=[0.5])
    short, long = (scene(IMAGE, box, [f"boot {rest}"], scale=8) for rest in ("", "with a name " * 9))
    tag = (short == colour(0)).all(-1).nonzero()
    top = int(tag[0].min())
    assert (short[top : top + 19, 2:36] == long[top : top + 19, 2:36]).all()


@pytest.mark.parametrize("names", [("Bücher", "Straße"), ("猫", "犬")])
def test_pictures_of_two_names_differ(names: tuple[str, str]) -> None:
    box = torch.tensor([[2.0, 8.0, 30.0, 28.0]])
    tags = [scene(IMAGE, Annotation(boxes_xyxy_px=box, labels=[k]), [*names], scale=8) for k in (0, 1)]
    tinted = [(tag != 128).any(-1) & (tag != colour(k)).any(-1) for k, tag in enumerate(tags)]
    assert (tinted[0] != tinted[1]).any(), "the letters differ, not the colour alone"
    assert (captioned(tags[0], [names[0]]) != captioned(tags[0], [names[1]])).any()


def test_reasons_name_both_classes_inside_the_picture() -> None:
    page = why(IMAGE, torch.randn(32, 32, generator=torch.Generator().manual_seed(0)), (0, 1), ["one " * 30, "other " * 30])
    ground = page[:26, [0, 1, 2, -3, -2, -1]]
    assert (ground == ground[0, 0]).all()
