"""What a model sees, as a file that runs without it: a network of the folded trunk and the heads, in ONNX."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genrep import __version__
from genrep.model import GenRep
from genrep.tasks import run_tasks

if TYPE_CHECKING:
    import onnx

BOXES, SCORES = "boxes_xyxy_px", "scores"
OBJECTS = ("object_image", "object_label", "object_score", "object_box_xyxy_px")
"""Of each object: the image of the batch that it is in, its class, how sure that is, and its box, in pixels of the network's input."""
MOST_OBJECTS = 100
"""Of a class, in an image."""
LEAST_OPSET = 18


class Perceiver(nn.Module):
    """`GenRep.perceive` as a network: an image to tensors, without choosing among objects."""

    def __init__(self, model: GenRep) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, image: Float[Tensor, "b c h w"]) -> dict[str, Tensor]:
        """By name what every task says.

        Args:
            image: in [-1, 1]; of a model of grey images one channel.
        """
        model = self.model
        x0 = image if model.codec.stride == 1 else model.codec.encode(image)
        found: dict[str, Tensor] = {}
        for _, head, output in run_tasks(model.tasks(), model.clean_features(x0)):
            found |= head.tensors(output)
        return found


def export_onnx(model: GenRep, path: Path, *, batch: int = 1) -> dict[str, Any]:
    """Write what a model perceives as an ONNX file, which knows its class names and its images' size.

    Its outputs are those of the tasks' `tensors`, and of a detector, in the place of all boxes, the objects: OBJECTS, class by class, best first.

    Args:
        batch: images at a time.
    Returns:
        the outputs by name, with their shapes.
    Raises:
        ValueError: the model has no heads, or none that says anything in tensors.
    """
    import onnx

    perceiver = Perceiver(model)
    image = torch.zeros(batch, model.codec.image_channels, *model.image_size, device=model.device)
    with torch.no_grad():
        names = list(perceiver(image))  # and what is kept of the weights is there when export begins
    if not names:
        raise ValueError(f"there is nothing to export: this model has {', '.join(model.heads) or 'no heads'}.")
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(perceiver, (image,), dynamo=True, input_names=["image"], output_names=names, opset_version=LEAST_OPSET, verbose=False)
    assert program is not None
    network = program.model_proto
    overlap = next((head.overlap for _, head in model.tasks() if head.overlap is not None), None)
    if overlap is not None:
        _choose_objects(network, overlap)
    config = model.config
    known = {"class_names": model.class_names, "image_size": model.image_size, "range": [-1, 1], "depth": config.depth, "genrep": __version__}
    onnx.helper.set_model_props(network, {name: json.dumps(value) for name, value in known.items()})
    onnx.checker.check_model(network, full_check=True)
    path.write_bytes(network.SerializeToString())
    return {output.name: [side.dim_param or side.dim_value for side in output.type.tensor_type.shape.dim] for output in network.graph.output}


def _choose_objects(network: onnx.ModelProto, overlap: float) -> None:
    """Objects in the place of all that may be some: of each class those that no better one overlaps."""
    from onnx import TensorProto, helper

    def number(name: str, kind: int, value: float, shape: Sequence[int] = ()) -> str:
        network.graph.initializer.append(helper.make_tensor(name, kind, shape, [value]))
        return name

    def node(kind: str, inputs: list[str], output: str, **settings: Any) -> str:
        network.graph.node.append(helper.make_node(kind, inputs, [output], **settings))
        return output

    by_class = node("Transpose", [SCORES], "scores_by_class", perm=[0, 2, 1])
    limits = [
        number("most_objects", TensorProto.INT64, MOST_OBJECTS),
        number("overlap", TensorProto.FLOAT, overlap),
        number("least_score", TensorProto.FLOAT, 0.0),
    ]
    chosen = node("NonMaxSuppression", [BOXES, by_class, *limits], "chosen")
    image, _, place = (node("Gather", [chosen, number(f"column_{i}", TensorProto.INT64, i)], name, axis=1) for i, name in enumerate((*OBJECTS[:2], "place")))
    last = number("last_axis", TensorProto.INT64, -1, [1])
    where = node("Concat", [node("Unsqueeze", [each, last], f"{each}_column") for each in (image, place)], "image_and_place", axis=1)
    node("GatherND", [by_class, chosen], OBJECTS[2])
    node("GatherND", [BOXES, where], OBJECTS[3])
    kept = [output for output in network.graph.output if output.name not in (BOXES, SCORES)]
    objects = [
        *(helper.make_tensor_value_info(name, TensorProto.INT64, ["objects"]) for name in OBJECTS[:2]),
        helper.make_tensor_value_info(OBJECTS[2], TensorProto.FLOAT, ["objects"]),
        helper.make_tensor_value_info(OBJECTS[3], TensorProto.FLOAT, ["objects", 4]),
    ]
    del network.graph.output[:]
    network.graph.output.extend([*kept, *objects])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
