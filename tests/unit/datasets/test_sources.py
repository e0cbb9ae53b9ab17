from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from genrep.datasets import cache_folder, sources
from genrep.datasets.idx import content_sha256
from genrep.datasets.sources import fashion_mnist_files


def _own_digests(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Declare the small files to be the real ones."""
    digests = {path.name.removesuffix(".gz"): content_sha256(path) for path in folder.glob("*.gz")}
    monkeypatch.setattr(sources, "CONTENT_SHA256", digests)


@pytest.fixture(autouse=True)
def no_installed_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", Path("/nowhere/fashion-mnist"))


def _fail_download(*args: object, **kwargs: object) -> None:
    raise RuntimeError("mirror is\ndown")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GENREP_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "genrep"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "genrep"
    monkeypatch.setenv("GENREP_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_error_lists_all_five_tries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "FashionMNIST", _fail_download)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="Fashion-MNIST was not found") as caught:
        fashion_mnist_files(root=None, cache=tmp_path, allow_network=True, verify=True)
    message = str(caught.value)
    tries = [
        "given folder: none was given",
        f"the cache {tmp_path}",
        "Debian's installed package",
        "`apt-get download",
        "torchvision's download: mirror is down",
    ]
    places = [message.index(f"({number}) ") for number in range(1, 6)]
    assert places == sorted(places)
    assert all(text in message for text in tries)
    assert "\n" not in message
    assert not list(tmp_path.glob("fetching-*"))


def test_network_is_used_only_when_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr(sources, "FashionMNIST", forbidden)
    monkeypatch.setattr(subprocess, "run", forbidden)
    with pytest.raises(ValueError, match=r"\(5\) torchvision's download: the network was not asked for"):
        fashion_mnist_files(root=None, cache=tmp_path, allow_network=False, verify=True)


def test_other_content_is_refused_and_named(idx_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: sha256 of the content is [0-9a-f]{64}; expected c59f468a"):
        fashion_mnist_files(root=idx_folder, cache=tmp_path, allow_network=False, verify=True)
    assert len(fashion_mnist_files(root=idx_folder, cache=tmp_path, allow_network=False, verify=False)) == 4


def test_given_folder_is_never_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no file train-images-idx3-ubyte"):
        fashion_mnist_files(root=tmp_path, cache=tmp_path, allow_network=True, verify=True)
    with pytest.raises(ValueError, match="is not a folder"):
        fashion_mnist_files(root=tmp_path / "absent", cache=tmp_path, allow_network=True, verify=True)


def test_unverified_files_must_be_given() -> None:
    with pytest.raises(ValueError, match="needs `root`"):
        fashion_mnist_files(root=None, cache=Path("unused"), allow_network=False, verify=False)


def test_torchvision_layout_and_plain_files_are_recognised(idx_folder: Path, tmp_path: Path, write_idx) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    shutil.copytree(idx_folder, raw)
    found = fashion_mnist_files(root=tmp_path, cache=tmp_path, allow_network=False, verify=False)
    assert {path.parent for path in found.values()} == {raw}


def test_cache_comes_before_the_installed_package(monkeypatch: pytest.MonkeyPatch, idx_folder: Path, tmp_path: Path) -> None:
    _own_digests(monkeypatch, idx_folder)
    monkeypatch.setattr(sources, "DEBIAN_FOLDER", idx_folder)
    find = {"root": None, "cache": tmp_path, "allow_network": False, "verify": True}
    assert {path.parent for path in fashion_mnist_files(**find).values()} == {idx_folder}
    shutil.copytree(idx_folder, tmp_path / "fashion-mnist")
    assert {path.parent for path in fashion_mnist_files(**find).values()} == {tmp_path / "fashion-mnist"}


def test_download_is_verified_then_kept(monkeypatch: pytest.MonkeyPatch, idx_folder: Path, tmp_path: Path) -> None:
    _own_digests(monkeypatch, idx_folder)
    monkeypatch.setenv("PATH", "")
    kept = tmp_path / "fashion-mnist"
    kept.mkdir()
    (kept / "train-images-idx3-ubyte.gz").write_bytes(b"an old download, cut short")
    monkeypatch.setattr(sources, "FashionMNIST", lambda folder, download: shutil.copytree(idx_folder, folder / "FashionMNIST" / "raw"))
    found = fashion_mnist_files(root=None, cache=tmp_path, allow_network=True, verify=True)
    assert {path.parent for path in found.values()} == {kept}
    assert found == fashion_mnist_files(root=None, cache=tmp_path, allow_network=False, verify=True)


def test_damaged_download_is_not_kept(monkeypatch: pytest.MonkeyPatch, idx_folder: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sources, "FashionMNIST", lambda folder, download: shutil.copytree(idx_folder, folder / "FashionMNIST" / "raw"))
    with pytest.raises(ValueError, match=r"\(5\) torchvision's download: .* sha256 of the content"):
        fashion_mnist_files(root=None, cache=tmp_path, allow_network=True, verify=True)
    assert not list((tmp_path / "fashion-mnist").iterdir())


def test_debian_package_is_unpacked_without_root(monkeypatch: pytest.MonkeyPatch, idx_folder: Path, tmp_path: Path) -> None:
    _own_digests(monkeypatch, idx_folder)
    commands = []

    def run(command: list[str], cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command[0])
        if command[0] == "apt-get":
            (cwd / "dataset-fashion-mnist_1_all.deb").touch()
        else:
            shutil.copytree(idx_folder, cwd / "nowhere" / "fashion-mnist")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    found = fashion_mnist_files(root=None, cache=tmp_path, allow_network=True, verify=True)
    assert commands == ["apt-get", "dpkg"]
    assert {path.parent for path in found.values()} == {tmp_path / "fashion-mnist"}
