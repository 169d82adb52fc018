"""What is found before there is work: a machine or cluster that is too small; and the model, in any folder."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.udr.models.runner.fake_pool import FakePool
from tests.udr.models.runner.squares import Squares
from udr.errors import ConfigError
from udr.models import RunnerOptions, Scheduler, SentenceEncoder, open_workers, scattered
from udr.models.runner import LoadEncoder, Node


def test_a_machine_with_too_few_gpus_is_refused_before_there_is_work(tmp_path: Path) -> None:
    opened = open_workers("test", Squares(tmp_path), "squares", RunnerOptions(workers=999), "cuda")
    with pytest.raises(ConfigError, match=r"999 processes need a GPU for each, found \d+; use fewer"), opened:
        raise AssertionError("opened")


def test_a_cluster_that_is_too_small_is_refused_before_there_is_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setattr("udr.models.runner.workers.ray_cluster", lambda _: nullcontext())
    monkeypatch.setattr("udr.models.runner.ray_workers.cluster_nodes", lambda: [Node(8, 1)])
    opened = open_workers("test", Squares(tmp_path), "squares", RunnerOptions(runner="ray", workers=2), "cuda")
    with pytest.raises(ConfigError, match="has 8 CPUs and 1 GPUs, too few for 2 workers with 1 GPUs each"), opened:
        raise AssertionError("opened")


def test_a_relative_path_names_the_same_encoder_where_workers_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def elsewhere(_: str, load: LoadEncoder, identity: str, *__: object) -> Iterator[Scheduler[object, object]]:
        # As of a cluster, which was started in another folder.
        monkeypatch.chdir(tmp_path)
        assert load()[0] == identity
        yield Scheduler(lambda: FakePool(1, load), identity)

    monkeypatch.setattr("udr.models.runner.encoders.open_workers", elsewhere)
    monkeypatch.chdir(model.parent)
    with scattered(SentenceEncoder.load(model.name, "cpu"), RunnerOptions(runner="ray"), "cpu") as encoder:
        assert isinstance(encoder, SentenceEncoder) and encoder.name == model.name
