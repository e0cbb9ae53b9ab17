"""From what a user names (a recipe, a file, a folder) to configs, run folders and models."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrep.config import Config
    from genrep.model import GenRep
    from genrep.model_config import ModelConfig
    from genrep.schedules import Schedule


def resolve_config(name: str, changes: Mapping[str, str], *, init: Path | None = None) -> Config:
    """A recipe by name, a config.json by path, or what suits the pictures of a folder, with overrides.

    Args:
        init: a finished run or model folder to begin from, or `packaged`, the one that comes with the package; what it consists of, image size and colours
            included, takes the place of the recipe's `model`, whose tasks alone stay; the best model on validation images is kept.
    Raises:
        ValueError: unknown recipe or field; the nearest is named.
        FileNotFoundError: no such file.
    """
    from genrep.model_config import ModelConfig
    from genrep.model_folder import stored_state
    from genrep.overrides import from_dict, override

    if init is None:
        return override(_named(name), changes)
    folder = _first_model(init)
    begun = from_dict(stored_state(folder)["config"], ModelConfig)
    return override(_begun(_named(name, begun), begun, folder), changes)


def _named(name: str, begun: ModelConfig | None = None) -> Config:
    from genrep.config import Config
    from genrep.overrides import from_dict
    from genrep.processes import is_first
    from genrep.recipes import RECIPES, own
    from genrep.registry import nearest
    from genrep.storage import read_json

    if name.endswith(".json"):
        return from_dict(read_json(Path(name)), Config)
    if name in RECIPES:
        return RECIPES[name]()
    if not Path(name).is_dir():
        raise ValueError(f"unknown recipe `{name}`, and there is no folder of that name; recipes: {', '.join(sorted(RECIPES))}.{nearest(name, RECIPES)}")
    config, line = own(Path(name).resolve(), begun)
    if is_first():
        print(line, file=sys.stderr)
    return config


def _first_model(init: Path) -> Path:
    from genrep.model_folder import PACKAGED

    return PACKAGED if init == Path("packaged") else model_folder(init).resolve()


def _begun(config: Config, begun: ModelConfig, folder: Path) -> Config:
    proposals = begun.proposals if "detection" in begun.tasks else config.model.proposals
    config = as_noisy(config, begun.schedule)
    model = replace(begun, class_names=config.model.class_names, tasks=config.model.tasks, proposals=proposals)
    return replace(config, model=model, train=replace(config.train, init=str(folder), best_by=config.train.best_by or "mean"))


def as_noisy(config: Config, schedule: Schedule) -> Config:
    """A configuration whose times mean the same noise in another schedule than its own."""
    own = config.model.schedule
    if schedule == own:
        return config

    def there(*times: float) -> list[float]:
        import torch

        return [round(time, 3) for time in schedule.t_of_logsnr(own.logsnr(torch.tensor(times, dtype=torch.float64))).tolist()]

    (noisy,), (low, high) = there(config.objective.noisy_t_max), there(*config.eval.guidance_interval)
    return replace(config, objective=replace(config.objective, noisy_t_max=noisy), eval=replace(config.eval, guidance_interval=(low, high)))


def default_run(name: str) -> Path:
    """runs/NAME-YYYY-MM-DD under the current directory; a config file gives the name of its folder or its own."""
    path = Path(name).resolve() if Path(name).is_dir() else Path(name)
    stem = path.stem if path.stem != "config" else path.resolve().parent.name
    return Path("runs") / f"{stem}-{date.today().isoformat()}"


def model_folder(path: Path) -> Path:
    """The model of a run folder, or the folder itself where it is one.

    Raises:
        FileNotFoundError: neither.
    """
    for folder in (path / "model", path):
        if (folder / "model.safetensors").is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise FileNotFoundError(f"{path} is a run whose training is not finished; `genrep train {path / 'config.json'} --out {path}` continues it.")
    raise FileNotFoundError(f"{path} has no model: expected a finished run or a folder with model.safetensors.")


def placed_model(path: Path | None) -> GenRep:
    """As `load_model`, where things are to be computed."""
    from genrep.devices import default_device

    device = default_device()
    return load_model(path).to(device)


def load_model(path: Path | None) -> GenRep:
    """The model of a run folder or a model folder; None: the one that comes with the package."""
    from genrep.model import GenRep

    return GenRep.from_pretrained(model_folder(path) if path else None)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Files are not overwritten unasked.

    Raises:
        ValueError: the file exists.
    """
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; name another `--out`, or say `--overwrite`.")


def refuse_outputs(paths: Sequence[Path], *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Files that a command is about to write take the place of no other one that it writes or reads, and unasked of none that exists.

    Raises:
        ValueError: a file that would, or that cannot be written.
    """
    read, written = {path.resolve() for path in inputs}, set[Path]()
    for path in paths:
        place = next(folder for folder in path.absolute().parents if folder.exists())
        if path.resolve() in read:
            raise ValueError(f"{path} is read, and would be overwritten by what is made of it; name another `--out`.")
        if path.resolve() in written:
            raise ValueError(f"{path} would be written twice, as two different pictures; give one of them another name.")
        if path.is_dir() or not place.is_dir() or not os.access(place, os.W_OK):
            raise ValueError(f"{path} cannot be written: {'it is a folder' if path.is_dir() else f'{place} is no folder to write into'}. Name another file.")
        refuse_existing(path, overwrite=overwrite)
        written.add(path.resolve())


def numbered(names: Sequence[str]) -> list[str]:
    """Names as they are, with a number where one comes again.

    >>> numbered(["x", "x", "y", "x_2"])
    ['x', 'x_2', 'y', 'x_2_2']
    """
    found: dict[str, None] = {}
    for name in names:
        spellings = (name if number == 1 else f"{name}_{number}" for number in count(1))
        found[next(spelling for spelling in spellings if spelling not in found)] = None
    return list(found)
