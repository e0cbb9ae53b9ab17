"""Where Fashion-MNIST comes from: five places in a fixed order, every file checked by sha256 before it is used."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from torchvision.datasets import FashionMNIST

from genrep.datasets.idx import content_sha256

CONTENT_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""sha256 of each file's decompressed content: Debian and the original mirror compress the same bytes differently."""

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CONNECT_LIMIT_S = 10
APT_LIMIT_S = 180
NOT_ASKED = "the network was not asked for (`genrep demo` and `genrep data fetch` ask; in Python pass allow_network=True)"


def cache_folder() -> Path:
    """Where downloads and prepared arrays are kept: $GENREP_CACHE, else $XDG_CACHE_HOME/genrep, else ~/.cache/genrep."""
    if own := os.environ.get("GENREP_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "genrep"
    return Path.home() / ".cache" / "genrep"


def fashion_mnist_files(*, root: Path | None, cache: Path, allow_network: bool, verify: bool) -> dict[str, Path]:
    """The four idx files by stem, from the first place that has them.

    The order: a given folder, the cache, Debian's installed package, `apt-get download` into the cache, torchvision's
    download into the cache. A given folder is used or refused, never passed over in silence.

    Args:
        root: folder with the four files, gzipped or plain (torchvision's layout is recognised too).
        verify: False accepts any content; only with `root`.
    Raises:
        ValueError: the given folder does not serve, or none of the five places does; the message lists each with its reason.
    """
    if root is not None:
        return _complete(root, verify=verify)
    if not verify:
        raise ValueError("`verify=False` accepts files of your own and needs `root`, the folder that has them; found root=None.")
    kept = cache / "fashion-mnist"
    fetches: dict[str, Callable[[], dict[str, Path]]] = {
        f"the cache {kept}": lambda: _complete(kept),
        f"Debian's installed package {DEBIAN_FOLDER}": lambda: _complete(DEBIAN_FOLDER),
        f"`apt-get download {DEBIAN_PACKAGE}`": lambda: _fetch(_from_apt, kept, allow_network),
        "torchvision's download": lambda: _fetch(_from_torchvision, kept, allow_network),
    }
    failures = ["a given folder: none was given"]
    for place, fetch in fetches.items():
        try:
            return fetch()
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            failures.append(f"{place}: {_one_line(error)}")
    tries = "; ".join(f"({number}) {failure}" for number, failure in enumerate(failures, 1))
    raise ValueError(
        f"Fashion-MNIST was not found in any of five places: {tries}. "
        f"Install Debian's {DEBIAN_PACKAGE}, or pass a folder with {', '.join(CONTENT_SHA256)} (.gz)."
    )


def _complete(folder: Path, *, verify: bool = True) -> dict[str, Path]:
    """All four files of a folder, or a ValueError that names the first one missing or different."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder.")
    files = {stem: _file(folder, stem) for stem in CONTENT_SHA256}
    for stem, path in files.items() if verify else ():
        found = content_sha256(path)
        if found != CONTENT_SHA256[stem]:
            raise ValueError(f"{path}: sha256 of the content is {found}; expected {CONTENT_SHA256[stem]}. Delete the file and fetch it again.")
    return files


def _file(folder: Path, stem: str) -> Path:
    for place in (folder, folder / "FashionMNIST" / "raw"):
        for name in (f"{stem}.gz", stem):
            if (place / name).is_file():
                return place / name
    raise ValueError(f"{folder} has no file {stem}.gz or {stem}.")


def _fetch(download: Callable[[Path], Path], kept: Path, allow_network: bool) -> dict[str, Path]:
    """Download into a temporary folder beside `kept`, verify, and only then move the files to `kept`."""
    if not allow_network:
        raise ValueError(NOT_ASKED)
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as folder:
        files = _complete(download(Path(folder)))
        return {stem: path.replace(kept / path.name) for stem, path in files.items()}


def _from_apt(folder: Path) -> Path:
    """Debian's package, fetched and unpacked without root."""
    options = ["-o", f"Acquire::http::Timeout={CONNECT_LIMIT_S}", "-o", f"Acquire::https::Timeout={CONNECT_LIMIT_S}", "-o", "Acquire::Retries=0"]
    _execute(["apt-get", *options, "download", DEBIAN_PACKAGE], folder)
    package = next(folder.glob("*.deb"))
    _execute(["dpkg", "-x", package.name, "."], folder)
    return folder / DEBIAN_FOLDER.relative_to("/")


def _execute(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=APT_LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with code {done.returncode}: {done.stderr.strip() or 'no message'}")


def _from_torchvision(folder: Path) -> Path:
    with _connect_limit(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        FashionMNIST(folder, download=True)
    return folder


@contextlib.contextmanager
def _connect_limit() -> Iterator[None]:
    """Connections opened inside give up after CONNECT_LIMIT_S."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_LIMIT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
