"""Files that are whole or absent, whenever the process dies, and that are refused by name when damaged."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genrep import storage
from genrep.storage import MANIFEST, claimed, load_tensors, read_json, save_tensors, sha256_of, verify_folder, write_folder, write_json, write_text


def filled_with(text: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "inner").mkdir()
        write_text(folder / "a.txt", text)
        write_text(folder / "inner" / "b.txt", text)

    return fill


def content(folder: Path) -> str:
    verify_folder(folder)
    found = {(folder / name).read_text() for name in ("a.txt", "inner/b.txt")}
    assert len(found) == 1
    return found.pop()


def test_folders_list_what_they_hold(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    write_folder(folder, filled_with("one"))
    assert content(folder) == "one"
    assert read_json(folder / MANIFEST) == {name: sha256_of(folder / name) for name in ("a.txt", "inner/b.txt")}
    write_folder(folder, filled_with("two"))
    assert content(folder) == "two" and [p.name for p in folder.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_half_way_leaves_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(folder: Path) -> None:
        write_text(folder / "a.txt", "two")
        raise error

    write_folder(tmp_path / "folder", filled_with("one"))
    for name in ("folder", "other"):
        with pytest.raises(error):
            write_folder(tmp_path / name, fail)
    assert content(tmp_path / "folder") == "one" and [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_place_is_one_s_alone_until_one_leaves(tmp_path: Path) -> None:
    with claimed(tmp_path / "place") as mine, claimed(tmp_path / "place") as theirs, claimed(tmp_path / "other") as other:
        assert mine is not None and theirs is None and other is not None
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyError), claimed(tmp_path / "place"):
        raise KeyError
    with claimed(tmp_path / "place") as mine:
        assert mine is not None


@pytest.mark.parametrize("kept", [False, True])
def test_whoever_is_killed_leaves_its_place_but_not_to_others_while_its_child_has_it(tmp_path: Path, kept: bool) -> None:
    said, saying = os.pipe()
    child = os.fork()
    if child == 0:
        with claimed(tmp_path / "place") as mine:
            assert mine is not None
            sleeper = subprocess.Popen(["sleep", "60"], pass_fds=(mine,) * kept)
            os.write(saying, f"{sleeper.pid}\n".encode())
            sleeper.wait()
    grandchild = int(os.read(said, 100))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with claimed(tmp_path / "place") as mine:
        assert (mine is None) == kept
    os.kill(grandchild, signal.SIGKILL)
    for _ in range(1_000):  # until it is gone
        with claimed(tmp_path / "place") as mine:
            if mine is not None:
                return
        time.sleep(0.01)
    pytest.fail("nobody has the place, and yet it is not free")


def test_a_place_that_was_left_between_looking_and_locking_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens the file just before its owner deletes it has a file that nobody else will ever find."""
    place, lock = tmp_path / "place", fcntl.flock
    opened = []

    def late(handle: int, how: int) -> None:
        if not opened:
            place.unlink()
        opened.append(handle)
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(place) as mine:
        assert len(opened) == 2 and mine is not None and os.path.samestat(os.fstat(mine), place.stat())


def test_where_there_are_no_locks_a_place_is_everyone_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with claimed(tmp_path / "place") as mine, claimed(tmp_path / "place") as theirs:
        assert mine is not None and theirs is not None
    assert not list(tmp_path.iterdir())


def _killed_at(instant: int, work: Callable[[], None]) -> bool:
    """Run `work` in a child that is killed right before its instant-th sync or rename; whether it was killed."""
    child = os.fork()
    if child == 0:
        left = [instant]

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments)

            return call

        storage._sync = counted(storage._sync)  # type: ignore[assignment]
        Path.rename = counted(Path.rename)  # type: ignore[method-assign, assignment]
        Path.replace = counted(Path.replace)  # type: ignore[method-assign, assignment]
        work()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_no_instant_of_death_loses_a_good_folder(tmp_path: Path) -> None:
    """A folder is whole under its name; between the two renames of a replacement, old and new both lie whole beside it."""
    for instant in range(50):
        place = tmp_path / str(instant)
        fresh, replaced = place / "fresh", place / "replaced"
        write_folder(replaced, filled_with("one"))
        killed = [_killed_at(instant, lambda to=folder: write_folder(to, filled_with("two"))) for folder in (fresh, replaced)]
        assert not fresh.exists() or content(fresh) == "two"
        if replaced.exists():
            assert content(replaced) in ("one", "two")
        else:
            assert sorted(content(found) for found in place.glob(".replaced.*")) == ["one", "two"]
        if not any(killed):
            assert content(fresh) == content(replaced) == "two" and instant > 10
            return
    raise AssertionError("the child never came to an end")


@pytest.mark.parametrize("name", ["a.txt", "inner/b.txt", MANIFEST])
def test_damage_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "folder", filled_with("one"))
    file = tmp_path / "folder" / name
    whole = file.read_bytes()
    for damaged in (bytes([whole[0] ^ 1]) + whole[1:], whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=file.name):
            verify_folder(tmp_path / "folder")
    file.unlink()
    with pytest.raises(ValueError, match=file.name):
        verify_folder(tmp_path / "folder")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname"])
def test_a_manifest_cannot_point_outside(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / "folder", filled_with("one"))
    write_json(tmp_path / "folder" / MANIFEST, {name: "0" * 64})
    with pytest.raises(ValueError, match="lies outside the folder"):
        verify_folder(tmp_path / "folder")


def test_json_is_finite_and_its_errors_have_a_place(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, None, "é"]})
    assert read_json(path) == {"a": [1, None, "é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1, None, "é"]}
    path.write_text('{"a": 1,\n b}')
    with pytest.raises(ValueError, match=r"a\.json is not valid json: line 2"):
        read_json(path)


def test_what_cannot_be_written_leaves_nothing_and_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match=r"x\.safetensors cannot be written"):
        save_tensors(tmp_path / "nowhere" / "x.safetensors", {"a": torch.ones(2)})

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "text", "more than there is room for")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"[]", b"null", b'{"a": "\xe3"}'])
def test_a_manifest_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match=MANIFEST):
        verify_folder(tmp_path)


def test_tensors_may_be_read_by_those_who_may_read_other_files(tmp_path: Path) -> None:
    write_text(tmp_path / "other.txt", "")
    for _ in range(2):
        save_tensors(tmp_path / "t.safetensors", {"a": torch.ones(2)})
        assert (tmp_path / "t.safetensors").stat().st_mode == (tmp_path / "other.txt").stat().st_mode


def test_tensors_come_back(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3), "c": torch.ones(2, dtype=torch.bfloat16)}
    save_tensors(tmp_path / "t.safetensors", tensors)
    found = load_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())
    (tmp_path / "t.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match=r"t\.safetensors is not a readable safetensors file"):
        load_tensors(tmp_path / "t.safetensors")
