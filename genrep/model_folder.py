"""Model folders: config.json, model.safetensors, README.md (the model card) and manifest.json, without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from genrep.model import GenRep
from genrep.model_config import ModelConfig
from genrep.overrides import from_dict, to_dict
from genrep.posteriors import POSTERIORS, PosteriorEstimator
from genrep.posteriors.calibration import Calibration, ObjectCalibration
from genrep.posteriors.gate import Gate
from genrep.storage import load_tensors, read_json, refuse_others, save_tensors, verify_folder, write_folder, write_json, write_text
from genrep.tasks.confidence import Confidence

PACKAGED = Path(__file__).parent / "packaged"
"""The model that comes with the package, made by `make showcase`."""

AUTOENCODER = "autoencoder"
"""Folder in it of the codec's weights, of a model that has some."""
FORMAT = 2
"""Version of the folder format. Format 1 held a trunk whose tokens entered as they were, with other position codes."""

CARD = """---
library_name: genrep
tags: [{tags}]
---
# A GenRep model

{what} class-conditional images of {height} x {width} px.

Classes: {classes}.
{recipe}
## Results
{results}

## Use
```python
import torch
from genrep import GenRep

model = GenRep.from_pretrained("PATH_OF_THIS_FOLDER")
images = model.generate(torch.tensor([0, 1, 2]))
{see}```
"""

TAGS = {
    "classification": "image-classification",
    "multilabel": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "depth": "depth-estimation",
}
"""What a model hub calls the tasks."""


def state_of(model: GenRep) -> dict[str, Any]:
    """What of a model is not a tensor: its configuration, its calibrations and what they are of, its gate and how sure its heads are, as plain json values."""
    parts = {"calibration": model.calibration, "object_calibration": model.object_calibration, "gate": model.gate}
    fitted = {name: part.to_dict() if part else None for name, part in parts.items()}
    return {
        "config": to_dict(replace(model.config, autoencoder=model.config.autoencoder and AUTOENCODER)),
        **fitted,
        "estimator": to_dict(model.estimator),
        "confidence": {name: head.confidence.to_dict() for name, head in model.tasks()},
    }


def model_card(model: GenRep, results: Mapping[str, float], recipe: str) -> str:
    """The README.md of a model folder."""
    rows, tasks = "\n".join(_row(name, results) for name in results if not name.endswith(("_low", "_high"))), model.config.tasks
    return CARD.format(
        tags=", ".join(["diffusion", *dict.fromkeys(TAGS[task] for task in tasks if task in TAGS), "image-generation"]),
        what=f"One diffusion model that perceives and generates: {', '.join(tasks)}, and" if tasks else "A diffusion model that generates",
        see="seen = model.perceive(images)\n" if tasks else "",
        height=model.image_size[0],
        width=model.image_size[1],
        classes=", ".join(model.class_names),
        recipe=f"\nMade by {recipe}.\n" if recipe else "",
        results=f"| figure | value | 95 % interval |\n|---|---|---|\n{rows}" if rows else "Not measured yet: `genrep eval RUN` does.",
    )


def _row(name: str, results: Mapping[str, float]) -> str:
    low, high = (results.get(f"{name}_{end}") for end in ("low", "high"))
    return f"| {name} | {results[name]:.4g} | {'' if low is None or high is None else f'{low:.4g} to {high:.4g}'} |"


def save_model(model: GenRep, folder: Path, *, results: Mapping[str, float], recipe: str, half: bool = False) -> None:
    """Write the folder in one move; a model folder of that name is replaced.

    Raises:
        ValueError: something else of that name exists, whose files would be lost.
    """
    refuse_others(folder, sign="model.safetensors", what="a model")

    def fill(path: Path) -> None:
        write_json(path / "config.json", {"format": FORMAT, **state_of(model)})
        save_tensors(
            path / "model.safetensors", {name: tensor.half() if half and tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()}
        )
        model.codec.save(path / AUTOENCODER)
        write_text(path / "README.md", model_card(model, results, recipe))

    write_folder(folder, fill)


def stored_state(folder: Path) -> dict[str, Any]:
    """What `state_of` said of the model in a folder made by `save_model`.

    Raises:
        ValueError: incomplete, damaged, or of another format.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a model folder: there is no such folder.")
    verify_folder(folder)
    stored = read_json(folder / "config.json")
    if stored.get("format") != FORMAT:
        remedy = "Train the model anew: its trunk was another one." if stored.get("format") == 1 else "Update genrep."
        raise ValueError(f"{folder / 'config.json'} has format {stored.get('format')!r}; this version reads {FORMAT}. {remedy}")
    if stored["config"].get("autoencoder"):  # wherever it is said to lie
        stored["config"]["autoencoder"] = str(folder / AUTOENCODER)
    return dict(stored)


def load_model(folder: Path) -> GenRep:
    """Read a folder made by `save_model`.

    Raises:
        ValueError: incomplete, damaged, of another format, or weights that do not fit the configuration.
    """
    stored = stored_state(folder)
    model = GenRep(from_dict({"object_depth": False, **stored["config"]}, ModelConfig))  # older models have none
    tensors = load_tensors(folder / "model.safetensors")
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(f"{folder / 'model.safetensors'} does not fit its config.json: first at `{wrong[0]}`; the folder is refused.")
    model.load_state_dict(tensors)
    estimator = stored.get("estimator", to_dict(model.estimator))  # older models have none
    if estimator.get("name") in POSTERIORS:  # else it was registered by a program that is not this one
        model.estimator = from_dict(estimator, PosteriorEstimator)  # type: ignore[type-abstract]
        model.calibration = Calibration.from_dict(stored["calibration"]) if stored["calibration"] else None
    model.object_calibration = ObjectCalibration.from_dict(stored["object_calibration"]) if stored["object_calibration"] else None
    model.gate = Gate.from_dict(stored["gate"]) if stored.get("gate") else None  # older models have none
    for name, head in model.tasks():
        head.confidence = Confidence.from_dict(stored.get("confidence", {}).get(name, {}))
    return model.eval()
