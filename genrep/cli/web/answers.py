"""What a model answers: json with pictures in it, or a set as a zip."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from genrep.cli.images import read_picture
from genrep.cli.made_set import Lot, lots, set_files
from genrep.cli.seeing import described, drawn_reasons, second_opinions, seen_cells
from genrep.cli.web.asked import Choosing, Keeping, Making, Seeing, refuse_much
from genrep.cli.wishes import asked_counts, layout, read_rows
from genrep.drawing import Wishes
from genrep.evaluation.draw import Annotation, as_png, data_uri, enlarged, nearness, scale_for, scene, to_picture
from genrep.evaluation.words import legible
from genrep.model import GenRep
from genrep.registry import lookup
from genrep.samplers import SAMPLERS
from genrep.synthesis import Made

KEPT_LOTS = 4
"""Orders whose images are remembered, for the set that is asked for next."""


class Answers:
    """A model, and what it answers.

    Args:
        source: the model's folder.
        name: what it is called on the page.
    """

    def __init__(self, model: GenRep, source: Path, name: str) -> None:
        self._model, self._source, self._name = model, source, name
        self._made = lru_cache(KEPT_LOTS)(self._make)

    def about(self) -> dict[str, Any]:
        """What the model is and can do."""
        model = self._model
        return {
            "name": self._name,
            "class_names": list(model.class_names),
            "size": list(model.image_size),
            "tasks": list(model.heads),
            "samplers": list(SAMPLERS),
            "posterior": model.calibration is not None,
            "evidence": model.calibration is not None and len(model.class_names) > 1,
            "recognises": bool({"classification", "detection"} & set(model.heads)),
        }

    def see(self, content: bytes, asked: Seeing) -> dict[str, Any]:
        """What the model says of a picture.

        Args:
            content: of its file.
        Raises:
            ValueError: no picture, or a model that has nothing to say.
        """
        model = self._model
        if not model.heads and not asked.budget:
            raise ValueError("this model perceives nothing, as it has no heads; its generative side can be asked with a `budget`.")
        if asked.why and not asked.budget:
            raise ValueError("`why` needs the generative side: give a `budget`, too.")
        picture = read_picture(Path("the picture"), model.image_size, grey=model.config.codec == "grey", content=content)
        images = picture.image[None]
        seen = model.perceive(images)
        (opinion,) = second_opinions(model, images, seen, budget=asked.budget) if asked.budget else [{}]
        entry, overlay = described(model, picture, (seen, 0), opinion, min_score=asked.min_score)
        scale = scale_for(model.image_size, 256)
        pictures = {"picture": enlarged(to_picture(picture.image), scale), "overlay": overlay}
        if seen.inv_depth is not None:
            pictures["depth"] = nearness(seen.inv_depth[0], scale=scale)
        if asked.why:
            pictures["why"] = drawn_reasons(model, picture.image, opinion)
        return {**entry, "pictures": {name: data_uri(as_png(drawn)) for name, drawn in pictures.items()}}

    def make(self, asked: Making) -> dict[str, Any]:
        """Images of each entry of `classes`, by name.

        Raises:
            ValueError: what `genrep generate` refuses, or too much for one request.
        """
        model = self._model
        rows = read_rows(asked.classes or None, model.class_names, model.image_size)
        refuse_much(len(rows) * asked.count, asked.steps)
        sampler = lookup(SAMPLERS, asked.sampler, "sampler")(num_steps=asked.steps)
        wanted = layout(rows, len(model.class_names), model.image_size)
        if wanted is not None and "detection" not in model.heads:
            raise ValueError(f"places are where the model's own detector should see objects; this one has {', '.join(model.heads) or 'no tasks'}.")
        each = torch.arange(len(rows)).repeat_interleave(asked.count)
        images = model.generate(
            asked_counts(rows, len(model.class_names))[each],
            seed=asked.seed,
            sampler=sampler,
            guidance=asked.guidance,
            wishes=Wishes(wanted=None if wanted is None else wanted.rows(each)),
        )
        drawn = seen_cells(model, images) if asked.seen and set(model.heads) - {"depth"} else []
        names = ["+".join(model.class_names[one.label] for one in row) for row in rows]
        return {
            "rows": [
                {
                    "name": name,
                    "images": [data_uri(as_png(image)) for image in images[each == row]],
                    "seen": [data_uri(as_png(drawn[i])) for i in (each == row).nonzero().flatten().tolist()] if drawn else [],
                }
                for row, name in enumerate(names)
            ]
        }

    def choose(self, asked: Choosing) -> dict[str, Any]:
        """Images that the model makes and recognises, with what it sees in them.

        Raises:
            ValueError: what `genrep synthesize` refuses, or too much for one request.
        """
        return {"lots": [{"name": lot.title, "num": lot.num, "images": [self._offered(made) for made in lot.made]} for lot in self._made(asked)]}

    def keep(self, asked: Keeping) -> bytes:
        """A zip of the set of what was offered and not rejected, as `genrep synthesize` would write it.

        Raises:
            ValueError: nothing is left, or an index that was not offered.
        """
        offered, rejected = self._made(asked.order), set(asked.rejected)
        if strange := sorted(rejected - {made.index for lot in offered for made in lot.made}):
            raise ValueError(f"`rejected` names {strange[0]}, which was not offered by this order.")
        left = [replace(lot, made=[made for made in lot.made if made.index not in rejected]) for lot in offered]
        if not any(lot.made for lot in left):
            raise ValueError("nothing is left of it: every image was rejected, or none was recognised.")
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, data in set_files(self._model, left, asked.order.order, self._source, f"genrep serve: {asked.model_dump_json()}"):
                archive.writestr(zipfile.ZipInfo(name), data)
        return content.getvalue()

    def _make(self, asked: Choosing) -> Sequence[Lot]:
        rows = read_rows(asked.classes or None, self._model.class_names, self._model.image_size)
        refuse_much(len(rows) * asked.count, asked.steps, tries=asked.tries)
        return list(lots(self._model, asked.order))

    def _offered(self, made: Made) -> dict[str, Any]:
        names = legible(self._model.class_names)
        known: dict[str, Any] = {} if made.semantic_mask is None else {"semantic_mask": made.semantic_mask}
        if made.objects is not None:
            objects = made.objects
            known |= {"boxes_xyxy_px": objects.boxes_xyxy_px, "labels": objects.labels.tolist(), "scores": objects.scores.tolist()}
        seen = scene(made.image, Annotation(**known), names)
        return {"index": made.index, "class_prob": made.class_prob, "picture": data_uri(as_png(made.image)), "seen": data_uri(as_png(seen))}
