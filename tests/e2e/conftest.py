"""Fashion-MNIST in small, as files of the same names and format, and the command line."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from genrep.cli.main import main

Genrep = Callable[..., tuple[str, str]]
ROOT = Path(__file__).parents[2]


def write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rectangles whose height tells the class: 200 training pictures (100 of them val) and 60 test pictures."""
    folder = tmp_path_factory.mktemp("idx")
    for stem, num in (("train", 200), ("t10k", 60)):
        labels = np.arange(num) % 10
        pictures = np.zeros((num, 28, 28), np.uint8)
        for number, label in enumerate(labels):
            pictures[number, 13 - label : 15 + label, 4 : 24 - number % 3] = 90 + number % 100
        write_idx(folder / f"{stem}-images-idx3-ubyte", pictures)
        write_idx(folder / f"{stem}-labels-idx1-ubyte", labels)
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A cache of its own, one thread, and the package from this checkout."""
    return {"GENREP_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The current directory of the commands."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def genrep(environment: dict[str, str], work: Path) -> Genrep:
    """Runs `genrep ARGUMENTS` in this process, expects an exit code, and returns what was printed to (stdout, stderr)."""

    def call(*arguments: str, code: int = 0) -> tuple[str, str]:
        out, err = io.StringIO(), io.StringIO()
        with chdir(work), redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            found = main(arguments)
        assert found == code, out.getvalue() + err.getvalue()
        return out.getvalue(), err.getvalue()

    return call


@pytest.fixture(scope="session")
def run(genrep: Genrep, data_root: Path, work: Path) -> Path:
    """A finished run of the tiny recipe, as runs/tiny, in float32, whatever a busy machine finds quicker: it is compared with others."""
    genrep("train", "tiny", "--data.root", str(data_root), "--out", "runs/tiny", "--train.bf16", "false")
    return work / "runs" / "tiny"
