"""What every test has: shapes and types checked at run time, one thread, no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from jaxtyping import install_import_hook

install_import_hook("genrep", "checked_types.checked")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_fixture_setup() -> None:
    """Weights of a fixture do not depend on what was drawn before."""
    torch.manual_seed(0)


def pytest_runtest_call() -> None:
    """Weights of a test do not depend on which tests ran before it in its process."""
    torch.manual_seed(0)


def _refuse_network(target: object) -> None:
    """Only loopback addresses and local sockets are reachable."""
    if isinstance(target, tuple) and target[0] != "localhost" and not ip_address(target[0]).is_loopback:
        raise AssertionError(f"a test asked for the network: {target[0]}")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Name look-ups and connections to other machines fail."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_network(address)
        connect(self, address)

    def guarded_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in (None, "", "localhost", "127.0.0.1", "::1", socket.gethostname()):
            raise AssertionError(f"a test asked for the network: {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where tensors of a test live: $GENREP_TEST_DEVICE, the CPU by default."""
    return torch.device(os.environ.get("GENREP_TEST_DEVICE", "cpu"))


@pytest.fixture(scope="session")
def dtype() -> torch.dtype:
    """Precision of a test: $GENREP_TEST_DTYPE, float32 by default."""
    return {"float32": torch.float32, "float64": torch.float64}[os.environ.get("GENREP_TEST_DTYPE", "float32")]
