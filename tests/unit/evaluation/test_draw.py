"""Pictures: the right pixels in the right place, names inside the frame, ten colours that differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.evaluation.draw import AGAINST, CROWDED, FOR, GROUND, PALETTE, Annotation, captioned, colour, grid, levelled, save_png, scene, to_picture, why

IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).view(3, 16, 16)
NAMES = tuple(f"class {k}" for k in range(12))


def test_bytes_round_trip_through_a_file(tmp_path: Path) -> None:
    expected = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)
    save_png(expected.float().div(127.5).sub(1), tmp_path / "a.png")
    save_png(expected.permute(1, 2, 0).numpy(), tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert np.array_equal(np.asarray(Image.open(tmp_path / name)), expected.permute(1, 2, 0).numpy())


def test_a_grid_without_gaps_is_its_images() -> None:
    images = torch.stack([IMAGE, -IMAGE, IMAGE.flip(1), IMAGE.flip(2)])
    found = grid(images, columns=2, scale=2, gap_px=0)
    assert found.shape == (64, 64, 3)
    assert np.array_equal(found[::2, ::2][:16, 16:], to_picture(-IMAGE))
    assert np.array_equal(found[1::2, 1::2][16:, :16], to_picture(IMAGE.flip(1)))


def test_names_make_room_for_themselves() -> None:
    plain, named = (grid(IMAGE[None].expand(4, -1, -1, -1), columns=2, row_names=names) for names in ((), ("short", "much longer")))
    assert named.shape[0] == plain.shape[0] and named.shape[1] > plain.shape[1] + 60


def test_words_stand_below_in_as_many_lines_as_they_need() -> None:
    picture = np.full((40, 200, 3), 90, np.uint8)
    one, two = captioned(picture, ["boot 0.93"]), captioned(picture, ["boot 0.93", "pullover 0.91", "sneaker 0.77"])
    assert (one[:40] == picture).all() and 40 < len(one) < len(two) and one.shape[1] == 200
    assert (two[len(one) :] != np.array(GROUND)).any(), "the second line is written"
    assert (two[:, -4:][40:] == np.array(GROUND)).all(), "and no word is cut off"


def test_nothing_known_leaves_the_image() -> None:
    unlabelled = torch.full((16, 16), 255, dtype=torch.uint8)
    found = scene(IMAGE, Annotation(semantic_mask=unlabelled), NAMES, scale=8)
    assert np.array_equal(found[::8, ::8], to_picture(IMAGE))


def test_a_mask_tints_its_pixels_alone() -> None:
    mask = torch.zeros(16, 16, dtype=torch.uint8)
    mask[4:8] = 3
    changed = (scene(IMAGE, Annotation(semantic_mask=mask), NAMES, scale=1) != to_picture(IMAGE)).any(-1)
    assert changed[4:8].all() and not changed[:4].any() and not changed[8:].any()


@pytest.mark.parametrize("box", [[2.0, 2.0, 9.0, 12.0], [-5.0, -5.0, 40.0, 40.0], [15.9, 15.9, 16.0, 16.0]])
def test_a_box_is_drawn_in_the_colour_of_its_class_inside_the_picture(box: list[float]) -> None:
    found = scene(torch.zeros(3, 16, 16), Annotation(boxes_xyxy_px=torch.tensor([box]), labels=[11], scores=[0.5]), NAMES, scale=8)
    assert found.shape == (128, 128, 3)
    assert int((found == np.array(colour(11))).all(-1).sum()) > 40


def test_many_boxes_are_counted_not_named_one_by_one() -> None:
    """Each in its colour; as much of the image is hidden as by two names."""
    corners = [(10.0 * x, 10.0 * y) for x in range(5) for y in range(4)]
    boxes = torch.tensor([[x + 1, y + 1, x + 8, y + 8] for x, y in corners])
    image = torch.zeros(3, 64, 64)

    def hidden(labels: list[int]) -> int:
        found = scene(image, Annotation(boxes_xyxy_px=boxes[: len(labels)], labels=labels, scores=[0.5] * len(labels)), NAMES, scale=4)
        inside = [found[round(4 * y + 12) : round(4 * y + 28), round(4 * x + 12) : round(4 * x + 28)] for x, y in corners]
        return sum(int((part != 128).any(-1).sum()) for part in inside)

    assert 3 * hidden([0] * 19 + [3]) < hidden([0] * CROWDED)


def test_ten_colours_differ() -> None:
    values = torch.tensor(PALETTE).double()
    assert float((torch.cdist(values, values) + 1e3 * torch.eye(10)).min()) > 40


def test_no_colour_is_grey() -> None:
    """As garments are."""
    assert min(max(channels) - min(channels) for channels in PALETTE) > 80


def test_evidence_has_the_colour_of_the_class_it_speaks_for() -> None:
    evidence = torch.zeros(16, 16)
    evidence[2, 3], evidence[12, 13], evidence[8, 8] = 4.0, -4.0, 1.0
    found = why(-torch.ones(3, 16, 16), evidence, (1, 5), NAMES)
    scale = 16
    left = found.shape[1] - 8 - 16 * scale
    beside = found[-8 - 16 * scale : -8, left : left + 16 * scale][scale // 2 :: scale, scale // 2 :: scale]
    assert tuple(beside[2, 3]) == FOR and tuple(beside[12, 13]) == AGAINST and tuple(beside[0, 0]) == (0, 0, 0)
    assert tuple(beside[8, 8]) == tuple(round(value / 2) for value in FOR)


def test_pictures_of_several_heights_become_as_high_as_the_highest() -> None:
    low, high = np.full((2, 3, 3), 200, np.uint8), np.full((5, 3, 3), 100, np.uint8)
    one, two = levelled([low, high])
    assert one.shape == two.shape == (5, 3, 3) and (one[:2] == 200).all() and (one[2:] == GROUND).all() and (two == 100).all()
