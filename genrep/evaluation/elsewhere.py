"""A finished run on data that it was not trained on."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

from genrep.datasets import ArrayDataset
from genrep.evaluation.evaluate import finished_run
from genrep.evaluation.perception import MEASURES, Figures, Seen, see
from genrep.model import GenRep
from genrep.processes import is_first
from genrep.storage import read_json, write_json
from genrep.training import Screen
from genrep.training.data import RunData, folders_of
from genrep.training.records import Silent
from genrep.types import Batch, Perception


def evaluate_elsewhere(
    run: Path | str, sets: tuple[str, ...] = (), *, weights: str = "last", allow_network: bool = False, progress: Screen | None = None
) -> tuple[Path, Figures]:
    """What a run's model sees in other sets: their test split, or all of a folder that has none; of one that it was trained on, then, val.

    Args:
        sets: embedded ones or folders, with all or some of the classes that the model knows; none: those of the run that are annotated.
        weights: the `last` of the run, or the `best` on validation images.
    Returns:
        the file that was written, RUN/eval-SETS.json (of the best RUN/eval-best-SETS.json; with a number behind it where that is of other folders of the
        same names), and the figures in it by name, `photos/classification/top1`, how many images each set has, `photos/n`, and how many of them
        are of val, `photos/n_val`, where the model was trained on it. The file also says where a folder is, `photos/folder`.
    Raises:
        ValueError: the run has no finished model, a set cannot be read, has classes that the model does not know, or says nothing of what it sees.
    """
    folder, config, model = finished_run(run, weights=weights)
    data = RunData(replace(config, data=replace(config.data, sets=sets or config.data.sets)), allow_network=allow_network, some_classes=True)
    figures: Figures = {}
    trained_on, asked = {Path(each).expanduser().resolve() for each in config.data.sets}, folders_of(sets or config.data.sets)
    for name in data.names:
        known = asked[name] in trained_on
        parts = data.to_be_seen(name, known=known)
        (progress or Silent()).on_event({"event": "evaluation", "part": f"perception of {name}, {'all of it' if 'train' in parts else ' and '.join(parts)}"})
        seen = _seen(model, list(parts.values()), config.eval.batch_size)
        found = {f"{name}/{task}/{key}": value for task, measure in MEASURES.items() for key, value in measure(seen, model.class_names).figures.items()}
        if not found and sets:
            raise ValueError(f"`{name}` has no annotations of what this model sees ({', '.join(model.heads)}); there is nothing to measure.")
        if found:
            figures |= {**found, f"{name}/n": len(seen.truth), **({f"{name}/n_val": len(parts["val"])} if known and "val" in parts else {})}
    best = "best-" if weights == "best" else ""
    where = {f"{name}/folder": str(asked[name]) for name in data.names if asked[name] is not None}
    path = _path(folder.path / f"eval-{best}{'+'.join(data.names)}.json", where)
    if is_first():
        write_json(path, figures | where)
    return path, figures


def _path(path: Path, where: dict[str, str]) -> Path:
    """The file of these folders: `path` unless figures of others are in it."""
    if not path.exists() or where.items() <= read_json(path).items():
        return path
    return path.with_stem(f"{path.stem}-{zlib.crc32(json.dumps(where).encode()):08x}")


def _seen(model: GenRep, sets: list[ArrayDataset], batch_size: int) -> Seen:
    """All that the model sees of the parts of a set."""
    slots = max(each.object_labels.shape[1] for each in sets)
    parts = [see(model, each.with_slots(slots), batch_size=batch_size) for each in sets]
    return replace(parts[0], truth=Batch.cat([part.truth for part in parts]), perception=Perception.cat([part.perception for part in parts]))
