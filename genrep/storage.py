"""Files that are whole or absent: atomic writes, folders under a sha256 manifest, tensors as safetensors. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

MANIFEST = "manifest.json"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file in one move: readers see the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_name(text: str) -> str:
    """A name from elsewhere, of a class for instance, as part of a file's name: it leads nowhere, and hides nothing.

    >>> file_name("t-shirt"), file_name("../../etc/passwd"), file_name("a b"), file_name("")
    ('t-shirt', '_etc_passwd', 'a_b', '_')
    """
    return re.sub(r"[^\w-]+", "_", text) or "_"


def json_text(value: Any) -> str:
    """The content of a json file; non-finite numbers are refused."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write json in one move."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """Read json.

    Raises:
        ValueError: not json, named by path and line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid json: line {error.lineno}: {error.msg}.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid json: it is not text ({error.reason} at byte {error.start}).") from None


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that is complete or absent: filled under another name, listed by sha256, synced, renamed.

    Args:
        path: final name; an existing folder of that name is replaced once the new one is complete.
        fill: writes the files into the folder it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        fill(temporary)
        files = sorted(p for p in temporary.rglob("*") if p.is_file())
        write_json(temporary / MANIFEST, {str(p.relative_to(temporary)): sha256_of(p) for p in files})
        for file in files:
            _sync(file)
        _sync(temporary)
        if path.exists():
            outgoing = path.with_name(f".{path.name}.old{os.getpid()}")
            path.rename(outgoing)
            temporary.rename(path)
            shutil.rmtree(outgoing, ignore_errors=True)
        else:
            temporary.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_others(folder: Path, *, sign: str, what: str) -> None:
    """An empty folder may be replaced, and one that `write_folder` made, with nothing else in it.

    Args:
        sign: a file that tells such a folder.
        what: is in it, for the message.
    Raises:
        ValueError: it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; {what} is written as a folder. Name another one.")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    listed = read_json(folder / MANIFEST) if MANIFEST in found else {}
    if found and sign not in listed:
        raise ValueError(f"{folder} exists and is no folder of {what}; what is written there would take the place of its files. Name another folder.")
    if others := sorted(found - {MANIFEST, *listed}):
        raise ValueError(f"{folder} holds `{others[0]}` beside {what}; what is written there would take its place. Move it away, or name another folder.")


def verify_folder(path: Path) -> None:
    """Check a folder against its manifest.

    Raises:
        ValueError: a file is missing, of another content, or the manifest itself is; the message names it.
    """
    manifest = path / MANIFEST
    if not manifest.is_file():
        raise ValueError(f"{path} has no {MANIFEST}: it is not a complete GenRep folder. Name one that is.")
    files = read_json(manifest)
    if not isinstance(files, dict):
        raise ValueError(f"{manifest} lists no files; the folder is refused.")
    for name, expected in files.items():
        file = path / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{manifest} names `{name}`, which lies outside the folder; the folder is refused.")
        if not file.is_file():
            raise ValueError(f"{file} is missing, though {MANIFEST} lists it; the folder is refused.")
        if sha256_of(file) != expected:
            raise ValueError(f"{file} is damaged: its sha256 is not the one in {MANIFEST}; the folder is refused.")


@contextmanager
def claimed(path: Path) -> Iterator[int | None]:
    """Have a place to oneself for as long as the block lasts, without waiting: its handle, or None where someone else has it.

    The place is an empty file, gone afterwards, with a lock of the operating system's, which whoever dies lets go of. A child process that is given the
    handle holds it, too, and keeps the place if its parent dies. Between machines it is as good as the locks of the file system that they share; where there
    are none at all, everyone is told that it is theirs.
    """
    handle = _locked(path)
    try:
        yield handle
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)  # still locked: who has opened it meanwhile finds that it is no longer there, and opens another
            os.close(handle)


def _locked(path: Path) -> int | None:
    import fcntl

    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # no locks here
            return handle
        with suppress(FileNotFoundError):  # whoever had it has just left
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors.

    Raises:
        OSError: the file cannot be written, as on a full disk.
    """
    try:
        path.touch()
        mode = path.stat().st_mode
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
        path.chmod(mode)  # as other files, not for its owner alone
    except (SafetensorError, FileNotFoundError) as error:
        raise OSError(f"{path} cannot be written ({error}).") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors.

    Raises:
        ValueError: not a safetensors file.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}).") from None
