"""--ray-address where nobody listens, or nothing is: a line within seconds, and Ray is not asked."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering import ray_engine


def connect(address: str) -> list[str]:
    """The addresses that Ray was asked to join."""
    asked: list[str] = []
    ray: Any = SimpleNamespace(
        is_initialized=lambda: False, init=lambda address, **_: asked.append(address), shutdown=lambda: None, exceptions=SimpleNamespace()
    )
    with ExitStack() as stack:
        ray_engine._connect(ray, address, 1, stack)
    return asked


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken and not listened at
        started = time.monotonic()
        with pytest.raises(SennaPruneError, match=r"--ray-address 127\.0\.0\.1:\d+: nobody listens there"):
            connect(f"127.0.0.1:{taken.getsockname()[1]}")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("address", ["127.0.0.1:port", "127.0.0.1:99999999", "no.such.host.invalid:6379", "\u202ehost:6379"])
def test_no_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror("unknown")))
    with pytest.raises(SennaPruneError, match="nobody listens"):
        connect(address)


def test_a_network_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def silent(_address: Any, timeout: float) -> Any:
        waited.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(SennaPruneError, match="timed out"):
        connect("10.0.0.1:6379")
    assert waited == [ray_engine.LISTENS_S] and waited[0] <= 10


def test_who_listens_is_joined() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert connect(address) == [address]
    assert connect("auto") == ["auto"]
