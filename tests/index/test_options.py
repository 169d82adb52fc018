"""``udr index build``, ``udr index compact`` and ``udr init``: every option arrives."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.options import Changes, Recorder, assert_each_arrives
from udr.data import Kind
from udr.models import RunnerOptions


def test_options_of_index_build_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunnerOptions, "check", lambda *_: None)
    monkeypatch.setattr("udr.models.check_tokenizer", lambda name: None)
    monkeypatch.setattr("udr.models.SentenceEncoder.load", lambda *loaded: loaded)

    def make() -> Recorder:
        recorder = Recorder("config", "encoder")

        @contextmanager
        def scattered(encoder: object, runner: object, device: str) -> Iterator[object]:
            recorder.keep(runner=runner)
            yield encoder

        def shards(config: object, shards: int, shard: int | None, **named: object) -> None:
            recorder(config, shards=shards, shard=shard, **named)

        monkeypatch.setattr("udr.models.scattered", scattered)
        monkeypatch.setattr("udr_index.build.build", recorder)
        monkeypatch.setattr("udr_index.versions.build_shards", shards)
        return recorder

    scattered = {"encoder": ("model", None), "runner.runner": "local"}
    changes: Changes = {
        "out": (f"--out {tmp_path / 'other'}", {"config.out": tmp_path / "other"}),
        "model": ("--model other", {"config.model": "other"}),
        "tasks": ("--tasks a,b", {"config.names": ("a", "b")}),
        "pool": ("--pool 5", {"config.pool": 5}),
        "seed": ("--pool 5 --seed 3", {"config.pool": 5, "config.seed": 3}),
        "device": ("--device cuda", {"config.device": "cuda"}),
        "kind": ("--kind hnsw", {"config.kind": "hnsw"}),
        "flat_below": ("--flat-below 9", {"config.flat_below": 9}),
        "tokenizer": ("--tokenizer its", {"config.tokenizer": "its"}),
        "bm25": ("--no-bm25", {"config.bm25": False}),
        "label_head": ("--no-label-head", {"config.label_head": False}),
        "head_fields": ("--no-head-fields", {"config.head_fields": False}),
        "export": ("--no-export", {"config.export": False}),
        "engine": ("--engine onnx-int8", {"config.engine": "onnx-int8"}),
        "dtype": ("--dtype float16", {"config.dtype": "float16"}),
        "reuse": ("--reuse old", {"config.reuse": Path("old")}),
        "threads": ("--threads 2", {"config.threads": 2}),
        "shards": ("--shards 3", {"shards": 3}),
        "shard": ("--shards 3 --shard 2", {"shards": 3, "shard": 2}),
        "runner": ("--runner ray", {**scattered, "runner.runner": "ray"}),
        "workers": ("--workers 2", {**scattered, "runner.workers": 2}),
        "gpus_per_worker": (
            "--workers 2 --gpus-per-worker 0.5",
            {**scattered, "runner.workers": 2, "runner.gpus_per_worker": 0.5},
        ),
        "ray_address": (
            "--runner ray --ray-address head:6379",
            {**scattered, "runner.runner": "ray", "runner.ray_address": "head:6379"},
        ),
    }
    given = (tmp_path, "--out", tmp_path / "index", "--model", "model")
    assert_each_arrives("index build", given, make, changes, {"as_json"})


def test_options_of_index_compact_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Recorder:
        recorder = Recorder("index")
        monkeypatch.setattr("udr_index.versions.live.compaction.compact", recorder)
        return recorder

    changes: Changes = {
        "forget": ("--forget", {"forget": True}),
        "allow_hub": ("--allow-hub", {"allow_hub": True}),
    }
    assert_each_arrives("index compact", ("index",), make, changes, {"as_json"})


def test_options_of_init_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Recorder:
        recorder = Recorder("config")

        def read(_: Path, columns: list[str], *dialect: object) -> SimpleNamespace:
            named = dict(zip(("delimiter", "encoding", "sheet"), dialect, strict=True))
            recorder.keep(columns=columns, **named)
            return SimpleNamespace(format="CSV", records=[])

        monkeypatch.setattr("udr_index.preparation.tables.read_table", read)
        monkeypatch.setattr("udr_index.preparation.run.prepare", lambda config, _: recorder(config))
        return recorder

    choices = {"config.kind": Kind.MULTIPLE_CHOICE}
    changes: Changes = {
        "out": ("--out other", {"config.out": Path("other")}),
        "inputs": ("--input more", {"config.inputs": ("text", "more")}),
        "target": ("--target other", {"config.target": "other", "columns": ["other"]}),
        "id": ("--id number", {"config.id": "number", "columns": ["label", "number"]}),
        "kind": ("--kind generation", {"config.kind": Kind.GENERATION}),
        "choices": ("--kind choices --choices a --choices b", {**choices, "config.choices": ("a", "b")}),
        "name": ("--name other", {"config.name": "other"}),
        "family": ("--family other", {"config.family": "other"}),
        "replace": ("--replace", {"config.replace": True}),
        "merge_labels": ("--merge-labels", {"config.merge_labels": True}),
        "test_rows": ("--test-rows 5", {"config.test_rows": 5}),
        "seed": ("--seed 3", {"config.seed": 3}),
        "delimiter": ("--delimiter ;", {"delimiter": ";"}),
        "encoding": ("--encoding latin-1", {"encoding": "latin-1"}),
        "sheet": ("--sheet second", {"sheet": "second"}),
        "model": ("--model other", {"config.model": "other"}),
        "device": ("--model other --device cuda", {"config.model": "other", "config.device": "cuda"}),
    }
    given = (tmp_path / "rows.csv", "--out", tmp_path / "tasks", "--input", "text", "--target", "label")
    assert_each_arrives("init", given, make, changes, {"as_json"})
