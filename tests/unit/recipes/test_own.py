"""What a look at a folder finds, and the recipe that suits it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from own_folders import write_boxes, write_masks, write_pets, write_photos, write_rooms, write_voc
from PIL import Image

from genrep.backbones import DiTConfig
from genrep.backbones.dit import stride_for
from genrep.datasets.glance import Glance, glance
from genrep.recipes import demo, own
from genrep.recipes.own import MOST_PROPOSALS, model_size


def test_a_look_at_each_layout(tmp_path: Path) -> None:
    assert glance(write_photos(tmp_path / "photos", 4)) == Glance("image-folder", 13, (20, 24), is_grey=False)  # one of them is broken
    boxes = glance(write_boxes(tmp_path / "boxes", masks=True))
    assert (boxes.layout, boxes.num_objects) == ("coco", 6), "what lies outside its picture counts, too: that is found out later"
    rooms = glance(write_rooms(tmp_path / "rooms"))
    assert glance(write_masks(tmp_path / "masks")) == Glance("image-masks", 20, (24, 32), is_grey=False), "masks are no pictures"
    assert glance(write_voc(tmp_path / "voc", masks=True)) == Glance("voc", 20, (24, 32), is_grey=False, num_objects=1)
    assert glance(write_pets(tmp_path / "pets")).layout == "pets"
    assert rooms == Glance("depth-pairs", 12, (24, 32), is_grey=True), "depth maps are no pictures"


def test_grey_is_grey_in_any_mode_and_one_colour_is_enough(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8), 90).save(tmp_path / "a" / "1.png")
    Image.new("RGB", (8, 8), (90, 92, 89)).save(tmp_path / "a" / "2.jpg")
    assert glance(tmp_path).is_grey
    Image.new("RGB", (8, 8), (90, 140, 89)).save(tmp_path / "a" / "3.jpg")
    assert not glance(tmp_path).is_grey


def test_a_picture_that_will_be_refused_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (8, 8), 90).save(tmp_path / "a" / "1.png")
    Image.new("RGB", (8_010, 8_000), (90, 140, 89)).save(tmp_path / "a" / "2.png")
    assert glance(tmp_path) == Glance("image-folder", 2, (8, 8), is_grey=True)


def test_a_folder_of_broken_pictures_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_text("no")
    with pytest.raises(ValueError, match="no picture that can be opened"):
        glance(tmp_path)


@pytest.mark.parametrize(
    "size", [(28, 28), (32, 32), (48, 48), (60, 60), (64, 64), (90, 90), (96, 128), (112, 112), (480, 640), (1080, 1920), (9, 300), (1, 1)]
)
def test_every_size_is_one_that_a_model_can_take(size: tuple[int, int]) -> None:
    tokens = DiTConfig().max_tokens
    height, width = model_size(size, max_tokens=tokens)
    stride = stride_for((height, width), tokens)
    assert (height // stride) * (width // stride) <= tokens and max(height, width) <= 128 and min(height, width) >= 16
    assert stride <= 8, "small things are lost on a coarser grid"
    if min(size) >= 16 and (max(size) <= 96 or size == (96, 128)):
        assert max(abs(height - size[0]), abs(width - size[1])) <= 4


def test_the_recipe_suits_the_folder(tmp_path: Path) -> None:
    config, line = own(write_photos(tmp_path / "photos", 4))
    assert (config.model.image_size, config.model.codec, config.name) == ((20, 24), "pixels", "own")
    assert config.train.stage2_images == 8_000 and config.train.stage1_images == 2_000
    assert 0 < config.objective.prior_steps < demo().objective.prior_steps / 5, "thirteen pictures are learnt by heart before that"
    assert f"{tmp_path / 'photos'}: 13 pictures of about 20 x 24 px, in colour" in line
    rooms, line = own(write_rooms(tmp_path / "rooms"))
    assert (rooms.model.tasks, rooms.model.depth, rooms.model.codec) == (("classification", "depth"), "metric", "grey") and "grey" in line


def test_more_boxes_are_looked_at_again_where_pictures_are_crowded(tmp_path: Path) -> None:
    few, _ = own(write_boxes(tmp_path / "few", most=2))
    many, line = own(write_boxes(tmp_path / "many", most=20))
    most, _ = own(write_boxes(tmp_path / "most", most=90))
    assert few.model.proposals == demo().model.proposals < many.model.proposals < most.model.proposals == MOST_PROPOSALS
    assert f"--model.proposals {many.model.proposals}" in line and "objects or fewer" in line
    assert few.objective.gate_images == demo().objective.gate_images > most.objective.gate_images > 0
    assert few.train.glimpses == demo().train.glimpses > most.train.glimpses > 0, "boxes that are looked at in a step stay as many"


def test_colours_are_mirrored_and_grey_is_not(tmp_path: Path) -> None:
    """Digits and letters are not what they are in a mirror."""
    config, line = own(write_photos(tmp_path / "photos", 4))
    rooms, _ = own(write_rooms(tmp_path / "rooms"))
    assert config.objective.augment.mirror and not rooms.objective.augment.mirror and "--objective.augment.mirror true" in line
    assert config.objective.augment.shift_px == 1 and rooms.objective.augment.shift_px == 2


def test_half_as_many_large_pictures_judge(tmp_path: Path) -> None:
    shares = []
    for side in (48, 56):
        (tmp_path / str(side) / "a").mkdir(parents=True)
        Image.new("RGB", (side, side), (90, 140, 89)).save(tmp_path / str(side) / "a" / "1.png")
        shares.append(own(tmp_path / str(side))[0].objective.gate_images / demo().objective.gate_images)
    assert shares == [1, 0.5]


def test_what_follows_from_the_size_follows_from_that_of_the_model_that_training_begins_from(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 4)
    begun = replace(demo().model, image_size=(64, 64), codec="grey")
    config, line = own(photos, begun)
    assert (config.model.image_size, config.model.codec, config.objective.augment.shift_px) == ((64, 64), "grey", 4)
    assert config.objective.gate_images == demo().objective.gate_images // 2 < own(photos)[0].objective.gate_images
    assert "--model.image_size 64,64 --model.codec grey " in line


def test_tasks_are_said_where_they_are_chosen(tmp_path: Path) -> None:
    assert own(write_rooms(tmp_path / "rooms"))[1].endswith(" --model.tasks classification,depth")
    assert "--model.tasks" not in own(write_photos(tmp_path / "photos", 4))[1]
