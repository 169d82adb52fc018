"""Replicas on a Ray cluster of which one is slow or dead: the answers of the others count, and nothing ends."""

import asyncio
import time
from typing import Any

import pytest

from udr_service.app import OtherReplicas, Replicas
from udr_service.errors import ReloadError

pytest.importorskip("ray", reason="the extra ray is not installed")
pytest.importorskip("grpc_reflection", reason="the extra ray is not installed with Ray Serve")


# Those of Ray itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Replica:
    """A replica's answer to a call, as Ray Serve hands it on: it comes after some seconds, or is an error."""

    def __init__(self, answer: Any, seconds: float = 0.0) -> None:
        self.answer, self._seconds = answer, seconds

    def get(self, timeout: float) -> Any:
        if self._seconds > timeout:
            time.sleep(timeout)
            raise TimeoutError("not ready")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Handle:
    """Ray Serve's handle of replicas, whose answers to a broadcast are collected by Ray itself."""

    def __init__(self, *replicas: Replica, error: Exception | None = None) -> None:
        self.replicas, self.error, self.calls = replicas, error, list[tuple[str, ...]]()

    def broadcast(self, *call: str) -> Any:
        from ray.serve.handle import DeploymentBroadcastResponse

        async def sent() -> Any:
            if self.error is not None:
                raise self.error
            return self.replicas

        self.calls.append(call)
        return DeploymentBroadcastResponse(sent(), None)


SLOW = Replica(None, seconds=60.0)


def test_a_slow_replica_is_left_out_of_the_reports_and_the_others_are_not() -> None:
    handle = Handle(Replica(("own", "a")), SLOW, Replica(("other", "b")), Replica(RuntimeError("died")))
    others = OtherReplicas(handle, "own", seconds=0.1)
    assert list[object](asyncio.run(others.reports())) == ["b"] and handle.calls == [("report",)]


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        (Handle(Replica(None), SLOW), "^1 of 2 replicas did not reload: it has not answered in time"),
        (Handle(Replica(None), Replica(RuntimeError("died"))), "^1 of 2 replicas did not reload: died"),
        (Handle(Replica("no such index"), Replica("no")), "^2 of 2 replicas did not reload: no such index"),
        (Handle(error=RuntimeError("no replica is there")), "did not reload: no replica is there"),
    ],
)
def test_a_reload_names_what_a_replica_did_not_do_whatever_ray_says_of_it(handle: Handle, message: str) -> None:
    with pytest.raises(ReloadError, match=message):
        Replicas(handle, seconds=0.1).reload()
    assert handle.calls == [("reload", "SIGHUP")]


def test_a_reload_of_all_is_silent() -> None:
    handle = Handle(Replica(None), Replica(None))
    Replicas(handle).reload()
    assert handle.calls == [("reload", "SIGHUP")]
