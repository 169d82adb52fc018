"""Retrievers and clients that are copied, pickled and forked: they work, or say what to do."""

import copy
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HashEncoder
from tests.tiny_models import save_encoder
from udr.client import AsyncClient, Client
from udr.errors import ArtifactError, ConfigError
from udr.retrieval import RetrievalRequest, Retriever
from udr_index.build import BuildConfig, build


@pytest.fixture(scope="module")
def carried(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that contains its encoder."""
    folder = tmp_path_factory.mktemp("carried")
    build(BuildConfig(tasks=collection, out=folder / "index", model=str(save_encoder(folder / "model"))))
    return folder / "index"


def in_fork(call: Callable[[], object]) -> str:
    """Call in a fork, which is killed after 20 seconds; return the error."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def run() -> None:
        try:
            theirs.send(f"returned {call()}")
        except Exception as error:
            theirs.send(str(error))

    child = context.Process(target=run)
    child.start()
    child.join(20)
    child.kill()
    assert ours.poll(), "the fork hangs"
    return str(ours.recv())


def test_a_pickle_opens_the_same_version(carried: Path) -> None:
    with Retriever.open(carried, device="cpu") as retriever:
        expected = retriever.retrieve("notes", "a dull day", 3)
        assert copy.deepcopy(retriever) is copy.copy(retriever) is retriever
        saved = pickle.dumps(retriever)
    with pickle.loads(saved) as again:
        assert again.retrieve("notes", "a dull day", 3) == expected


def test_a_pickle_of_a_deleted_version_is_an_error(carried: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(carried, tmp_path / "index"))
    with Retriever.open(index) as retriever:
        saved = pickle.dumps(retriever)
    shutil.rmtree(index)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        pickle.loads(saved)


def test_a_retriever_with_a_given_encoder_is_not_pickled(retriever: Retriever) -> None:
    with pytest.raises(TypeError, match="encoder was given to it cannot be pickled; open the index where it is used"):
        pickle.dumps(retriever)


def test_a_fork_is_told_to_open_the_index(retriever: Retriever) -> None:
    request = RetrievalRequest(input="a dull day", task="notes")
    calls: list[Callable[[], Any]] = [
        lambda: retriever.retrieve("notes", "a dull day"),
        lambda: retriever.retrieve_batch([request]),
        lambda: retriever.demonstration("notes", "n00"),
    ]
    for call in calls:
        assert f"opened in process {os.getpid()}, of which process" in in_fork(call)
    assert len(retriever.retrieve("notes", "a dull day", 3)) == 3


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_clients_are_copied_and_pickled_without_their_key(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDR_API_KEY", "udr_secret")
    client = kind("http://127.0.0.1:8000", timeout=3)
    assert copy.deepcopy(client) is copy.copy(client) is client
    saved = pickle.dumps(client)
    assert b"udr_secret" not in saved and pickle.loads(saved).url == client.url
    with pytest.raises(TypeError, match="is not pickled, since that writes the key; set UDR_API_KEY instead"):
        pickle.dumps(kind("http://127.0.0.1:8000", api_key="udr_secret"))


def test_the_fork_error_is_a_udr_error(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(ConfigError, match="or start processes with the method 'spawn'"):
        retriever.retrieve("notes", "a dull day")


def test_a_small_pool_gives_all_it_has(collection: Path, tmp_path: Path) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path, names=("notes",), pool=5), HashEncoder())
    with Retriever.open(tmp_path, encoder=HashEncoder()) as small:
        assert len(small.retrieve("notes", "a dull day")) == len(small.retrieve("notes", "a dull day", 5)) == 5
        options: dict[str, Any] = {"balance": True, "diversity": 0.2, "distinct": 0.99, "explain": True}
        for k in (6, 8, 10**5000):
            assert small.retrieve("notes", "a dull day", k) == small.retrieve("notes", "a dull day", 5)
            assert small.retrieve("notes", "a day", k, **options) == small.retrieve("notes", "a day", 5, **options)
            assert len(small.retrieve("notes", "a dull day", k, fill=True)) == 5
        small.delete("notes", [row.id for row in small.demonstrations("notes").rows])
        assert not small.retrieve("notes", "a dull day", 8)
