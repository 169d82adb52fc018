"""Building: equal inputs give equal bytes, a killed build goes on, and what is published stays readable."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_collection, write_task
from udr.data import encoder_demonstration, open_collection
from udr.errors import ArtifactError, ConfigError, DataError, ModelError, UdrError, UnknownTaskError, VerificationError
from udr.retrieval import Retriever
from udr.search import Vectors
from udr.store import open_version, read_current, verify
from udr_index.build import BuildConfig, Progress, build, build_partition

REPOSITORY = Path(__file__).parents[3]


def tree(root: Path) -> dict[str, bytes]:
    """Every file under a folder, by its path there."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_vectors_are_those_of_the_rows_in_the_order_of_their_ids(index: Path, collection: Path) -> None:
    opened, pool = open_version(index), open_collection(collection).tasks["reviews"].pool()
    texts = [encoder_demonstration(pool.task, row) for row in pool.rows]

    assert [row.id for row in pool.rows] == sorted(row.id for row in pool.rows)
    assert np.array_equal(opened.vectors("reviews"), HashEncoder().encode_demonstrations(texts))


def test_a_pool_is_encoded_by_length_in_batches_and_equal_texts_once(collection: Path, tmp_path: Path) -> None:
    class Watched(HashEncoder):
        def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
            sizes.append(len(texts))
            return super().encode_demonstrations(texts)

    sizes, encoder = list[int](), Watched()
    built = build(BuildConfig(tasks=collection, out=tmp_path, names=("reviews",), batch_size=4), encoder)

    assert built.sizes == {"reviews": 18}
    assert built.encoded == len(encoder.demonstrations) == len(set(encoder.demonstrations)) == 9
    assert [len(text) for text in encoder.demonstrations] == sorted(len(text) for text in encoder.demonstrations)
    assert sizes == [4, 4, 1]


@pytest.mark.parametrize("shard_rows", [1, 7, 18, 1000])
def test_shards_of_any_size_give_the_same_vectors_and_encode_no_text_twice(
    collection: Path, index: Path, tmp_path: Path, shard_rows: int
) -> None:
    encoder = HashEncoder()
    built = build(BuildConfig(tasks=collection, out=tmp_path, shard_rows=shard_rows), encoder)

    assert tree(built.path) == tree(open_version(index).path)
    assert len(encoder.demonstrations) == len(set(encoder.demonstrations))


@pytest.mark.parametrize("wrong", [np.zeros((1, 48), np.float32), np.full((20, 48), np.inf, np.float32)], ids=str)
def test_an_encoder_that_gives_no_usable_vectors_is_refused(collection: Path, tmp_path: Path, wrong: Vectors) -> None:
    encoder = HashEncoder()
    encoder.encode_demonstrations = lambda texts: wrong  # type: ignore[method-assign]

    with pytest.raises(ModelError, match=r"'fake-hash' gave .* of task 'notes'"):
        build(BuildConfig(tasks=collection, out=tmp_path), encoder)
    assert not (tmp_path / "CURRENT").exists()


def test_equal_inputs_give_the_same_version_and_the_same_bytes(collection: Path, index: Path, tmp_path: Path) -> None:
    again = tmp_path / "collection"
    write_collection(again)
    # Neither the order of the files nor that of the tasks has a say.
    lines = (again / "topic/questions/train.jsonl").read_text("utf-8").splitlines(keepends=True)
    (again / "topic/questions/train.jsonl").write_text("".join(reversed(lines)), "utf-8")
    config = BuildConfig(tasks=again, out=tmp_path / "out", names=("reviews", "questions", "notes"))

    built = build(config, HashEncoder())

    assert built.version == read_current(index)
    assert tree(built.path) == tree(index / "versions" / built.version)
    assert sorted(tree(tmp_path / "out").keys() - {".lock"}) == sorted(tree(index).keys() - {".lock"})


def changed_row(root: Path) -> Mapping[str, Any]:
    path = root / "mood/notes/train.jsonl"
    path.write_text(path.read_text("utf-8").replace("fine", "good", 1), "utf-8")
    return {}


def changed_metadata(root: Path) -> Mapping[str, Any]:
    path = root / "mood/notes/train.jsonl"
    path.write_text(path.read_text("utf-8").replace("}\n", ', "metadata": {"a": 1}}\n', 1), "utf-8")
    return {}


def changed_template(root: Path) -> Mapping[str, Any]:
    write_task(root, {**NOTES, "output": "The mood: {target}"})
    return {}


def changed_family(root: Path) -> Mapping[str, Any]:
    (root / "mood" / "family.toml").write_text('instruction = "Say how they feel."\n', "utf-8")
    return {}


@pytest.mark.parametrize(
    "change",
    [
        changed_row,
        changed_metadata,
        changed_template,
        changed_family,
        lambda root: {"names": ("notes", "questions")},
        lambda root: {"pool": 17},
        lambda root: {"dtype": "float16"},
        lambda root: {"kind": "hnsw"},
        lambda root: {"encoder": HashEncoder(salt="other")},
        lambda root: {"encoder": HashEncoder(name="another name")},
    ],
)
def test_other_inputs_give_another_version(index: Path, tmp_path: Path, change: Any) -> None:
    root = write_collection(tmp_path / "collection")
    changes = dict(change(root))
    encoder = changes.pop("encoder", HashEncoder())

    built = build(BuildConfig(tasks=root, out=tmp_path / "out", **changes), encoder)

    assert built.version != read_current(index)
    assert verify(tmp_path / "out") == []


def test_pools_are_cut_by_seed(collection: Path, tmp_path: Path) -> None:
    def ids(name: str, seed: int = 0) -> list[str]:
        built = build(BuildConfig(tasks=collection, out=tmp_path / name, pool=5, seed=seed), HashEncoder())
        assert built.sizes == {"notes": 5, "questions": 5, "reviews": 5}
        return open_version(tmp_path / name).demonstrations().ids("notes", range(5))

    assert ids("a") == ids("b") != ids("c", seed=1)


def test_building_again_encodes_nothing_and_publishes(collection: Path, tmp_path: Path) -> None:
    first = build(BuildConfig(tasks=collection, out=tmp_path), HashEncoder())
    second = build(BuildConfig(tasks=collection, out=tmp_path, pool=3), HashEncoder())
    assert read_current(tmp_path) == second.version != first.version

    encoder = HashEncoder()
    again = build(BuildConfig(tasks=collection, out=tmp_path), encoder)

    assert (again.version, again.encoded, encoder.demonstrations) == (first.version, 0, [])
    assert read_current(tmp_path) == first.version
    assert {path.name for path in (tmp_path / "versions").iterdir()} == {first.version, second.version}


def test_a_damaged_version_is_not_published_again_in_silence(collection: Path, tmp_path: Path) -> None:
    built = build(BuildConfig(tasks=collection, out=tmp_path), HashEncoder())
    (built.path / "demonstrations.sqlite").write_bytes(b"")

    with pytest.raises(VerificationError, match=r"damaged: demonstrations.sqlite: is truncated.*remove that folder"):
        build(BuildConfig(tasks=collection, out=tmp_path), HashEncoder())


def test_two_builders_do_not_meet(collection: Path, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(ArtifactError, match=r"another build is at work here"):
        build(BuildConfig(tasks=collection, out=tmp_path), HashEncoder())


class FailingEncoder(HashEncoder):
    """Fails at the n-th batch, as a machine that runs out of memory does."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.left = batch

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        self.left -= 1
        if not self.left:
            raise MemoryError
        return super().encode_demonstrations(texts)


def test_a_build_that_failed_goes_on_at_the_last_finished_shard(collection: Path, tmp_path: Path, index: Path) -> None:
    # Notes are one shard of 20 and questions shards of 10, 10 and 4; the third of those fails.
    config = BuildConfig(tasks=collection, out=tmp_path, shard_rows=10)
    with pytest.raises(MemoryError):
        build(config, FailingEncoder(5))
    (staging,) = tmp_path.glob(".building-*")
    # What a kill can leave in the middle of a write.
    for name in (
        ".manifest.json.tmp",
        "demonstrations.sqlite",
        "partitions/questions/shards/.000000020-000000024.npy.tmp",
    ):
        (staging / name).write_bytes(b"half")

    encoder, told = HashEncoder(), list[Progress]()
    built = build(config, encoder, told.append)

    assert built.encoded == len(encoder.demonstrations) == 4 + 9
    assert not any("Note:" in text for text in encoder.demonstrations)
    assert tree(built.path) == tree(index / "versions" / built.version)
    encoded = [one for one in told if one.stage == "encoded"]
    assert [(one.done, one.total) for one in encoded] == [(done, 62) for done in (20, 30, 40, 44, 53, 54, 62)]
    assert [one.rate is None for one in encoded] == [True, True, True, False, False, False, False]
    assert verify(tmp_path) == []


@pytest.mark.parametrize("shard_rows", [5, 15, 4096])
def test_a_build_goes_on_with_shards_of_another_size(
    collection: Path, tmp_path: Path, index: Path, shard_rows: int
) -> None:
    with pytest.raises(MemoryError):
        build(BuildConfig(tasks=collection, out=tmp_path, shard_rows=10), FailingEncoder(5))

    built = build(BuildConfig(tasks=collection, out=tmp_path, shard_rows=shard_rows), HashEncoder())

    assert tree(built.path) == tree(index / "versions" / built.version)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((9, 48), np.float32), np.zeros((10, 48), np.float16), None],
    ids=["of other rows", "of another dtype", "broken"],
)
def test_a_shard_that_is_not_what_its_name_says_is_made_again(
    collection: Path, tmp_path: Path, index: Path, wrong: Vectors | None
) -> None:
    config = BuildConfig(tasks=collection, out=tmp_path, shard_rows=10)
    with pytest.raises(MemoryError):
        build(config, FailingEncoder(5))
    (shard,) = tmp_path.glob(".building-*/partitions/questions/shards/000000010-*")
    shard.write_bytes(b"\x93NUMPY half")
    if wrong is not None:
        np.save(shard, wrong)

    built = build(config, HashEncoder())

    assert built.encoded == 10 + 4 + 9
    assert tree(built.path) == tree(index / "versions" / built.version)


def test_texts_that_repeat_are_taken_from_few_open_files(tmp_path: Path) -> None:
    rows: list[Mapping[str, Any]] = [
        {"id": f"{number:03}", "input": {"text": f"word {number % 100}"}, "target": "glad"} for number in range(300)
    ]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 50, limits[1]))
    try:
        built = build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "out", shard_rows=100), HashEncoder())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert built.encoded == 100
    vectors = open_version(tmp_path / "out").vectors("notes")
    assert np.array_equal(vectors[:100], vectors[200:])


def test_progress_is_told_after_every_batch(collection: Path, tmp_path: Path) -> None:
    told = list[Progress]()

    build(BuildConfig(tasks=collection, out=tmp_path, names=("notes",), batch_size=8), HashEncoder(), told.append)

    assert [one.done for one in told if one.stage == "encoded"] == [8, 16, 20]


def test_a_build_of_another_kind_keeps_the_vectors_and_one_of_the_same_the_indexes_too(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, fails = list[str](), True

    def watched(path: Path, kind: str, *arguments: Any) -> None:
        if fails and len(made) == 2:
            path.with_name(f".{path.name}.tmp").write_bytes(b"half")
            raise MemoryError
        made.append(kind)
        build_partition(path, kind, *arguments)

    monkeypatch.setattr("udr_index.build.builder.build_partition", watched)
    config = BuildConfig(tasks=collection, out=tmp_path, kind="IVF2,Flat")
    with pytest.raises(MemoryError):
        build(config, HashEncoder())
    fails = False

    other = build(replace(config, kind="HNSW8"), HashEncoder())
    assert (other.encoded, made[2:]) == (0, ["HNSW8"] * 3)
    fails, made[:] = True, []
    with pytest.raises(MemoryError):
        build(replace(config, out=tmp_path / "same"), HashEncoder())
    fails = False
    same = build(replace(config, out=tmp_path / "same"), HashEncoder())

    assert (same.encoded, made) == (0, ["IVF2,Flat"] * 3)
    for version, kind in ((other, "HNSW8"), (same, "IVF2,Flat")):
        fresh = build(BuildConfig(tasks=collection, out=tmp_path / kind, kind=kind), HashEncoder())
        assert tree(version.path) == tree(fresh.path)
    assert verify(tmp_path / "same") == []


KILLED = """
import sys, time
from pathlib import Path
from tests.fakes import HashEncoder
from udr_index.build import build
from udr_index.config import BuildConfig

class SlowEncoder(HashEncoder):
    def encode_demonstrations(self, texts):
        if any("Question" in text for text in texts):
            print("at the second task", flush=True)
            time.sleep(600)
        return super().encode_demonstrations(texts)

build(BuildConfig(tasks=Path(sys.argv[1]), out=Path(sys.argv[2]), pool=15, batch_size=4), SlowEncoder())
"""


def test_a_killed_build_leaves_the_old_version_and_the_next_goes_on(collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = build(BuildConfig(tasks=collection, out=out, pool=10), HashEncoder())
    before = tree(old.path)
    paths = [str(REPOSITORY / part) for part in (".", "index", "service", "training")]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(collection), str(out)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"at the second task\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    assert read_current(out) == old.version
    assert tree(old.path) == before
    assert verify(out) == []
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        assert len(retriever.retrieve(scope="all", input="a fine day", k=8)) == 8

    encoder = HashEncoder()
    new = build(BuildConfig(tasks=collection, out=out, pool=15, batch_size=4), encoder)

    assert not any("Note:" in text for text in encoder.demonstrations)
    assert new.encoded == len(encoder.demonstrations) == 24
    assert read_current(out) == new.version != old.version
    assert verify(out) == []
    assert not list(out.glob(".building-*"))


def test_a_named_local_model_travels_with_the_index(collection: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "README.md", "1_Pooling/config.json"):
        (model / name).write_text(name, "utf-8")
    from udr.models import fingerprint

    encoder = HashEncoder(name=str(model))
    encoder.fingerprint = fingerprint(model)
    built = build(BuildConfig(tasks=collection, out=tmp_path / "out"), encoder)
    shutil.rmtree(model)
    shutil.move(tmp_path / "out", tmp_path / "moved")

    opened = open_version(tmp_path / "moved")

    assert opened.model == str(tmp_path / "moved" / "versions" / built.version / "model")
    assert tree(Path(opened.model)).keys() == {"1_Pooling/config.json", "README.md", "config.json", "model.safetensors"}
    assert fingerprint(Path(opened.model)) == encoder.fingerprint
    assert verify(tmp_path / "moved") == []


def test_a_model_that_changes_while_the_index_is_built_is_found_out(collection: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", "utf-8")

    with pytest.raises(ModelError, match=r"changed while the index was built"):
        build(BuildConfig(tasks=collection, out=tmp_path / "out"), HashEncoder(name=str(tmp_path / "model")))
    assert not (tmp_path / "out" / "CURRENT").exists()


def test_nothing_in_a_version_is_a_pickle_or_tells_the_time(index: Path) -> None:
    files = tree(open_version(index).path)

    assert {Path(name).suffix for name in files} == {".json", ".sqlite", ".npy"}
    assert not {"time", "date", "created"} & set(json.loads(files["manifest.json"]))


BAD: dict[str, tuple[Mapping[str, Any], type[UdrError], str]] = {
    "no such folder": ({"tasks": Path("/no/such/folder")}, ConfigError, "no such folder of tasks"),
    "unknown task": (
        {"names": ("nope",)},
        UnknownTaskError,
        "unknown task 'nope'; there are notes, questions, reviews",
    ),
    "no task": ({"names": ()}, ConfigError, "no task is named"),
    "empty pool": ({"pool": 0}, ConfigError, "at least 1 demonstration a task, found 0"),
    "batch of none": ({"batch_size": 0}, ConfigError, "the batch size must be at least 1, found 0"),
    "shards of none": ({"shard_rows": 0}, ConfigError, "the shard rows must be at least 1, found 0"),
    "flat below nothing": ({"flat_below": -1}, ConfigError, "flat_below must be at least 0, found -1"),
    "unknown dtype": ({"dtype": "int8"}, ConfigError, "unknown dtype 'int8'; there are float32, float16"),
    "unknown tokenizer": (
        {"tokenizer": "package:no_such_package"},
        ModelError,
        "tokenizer 'package:no_such_package'|no installed package 'no_such_package'",
    ),
    "unknown model": ({"model": "package:no_such_package"}, ModelError, "no installed package 'no_such_package'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_refused_before_anything_is_written(collection: Path, tmp_path: Path, name: str) -> None:
    changes, kind, message = BAD[name]

    with pytest.raises(kind, match=message):
        build(BuildConfig(**{"tasks": collection, "out": tmp_path / "out", **changes}))
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_named(collection: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("", "utf-8")

    with pytest.raises(ConfigError, match=r"out: cannot be made the index directory"):
        build(BuildConfig(tasks=collection, out=tmp_path / "out"), HashEncoder())


def test_a_bad_row_is_refused_with_file_line_and_field(tmp_path: Path) -> None:
    rows: list[Mapping[str, Any]] = [
        {"id": "1", "input": {"question": "Where?"}, "target": "place"},
        {"id": "2", "input": {"question": "Who?"}, "target": "nobody"},
    ]
    write_task(tmp_path / "tasks", QUESTIONS, train=rows)

    with pytest.raises(DataError, match=r"train.jsonl:2: field 'target': 'nobody' is not one of the labels place"):
        build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "out"), HashEncoder())
    assert list(tree(tmp_path / "out")) == [".lock"]


def test_an_id_that_comes_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    rows: list[Mapping[str, Any]] = [
        {"id": id, "input": {"question": f"Where is {number}?"}, "target": "place"}
        for number, id in enumerate(["a", "b", "c", "b"])
    ]
    write_task(tmp_path / "tasks", QUESTIONS, train=rows)

    with pytest.raises(DataError, match=r"train.jsonl:4: field 'id': 'b' was used on line 2 already"):
        build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "out"), HashEncoder())
    assert list(tree(tmp_path / "out")) == [".lock"]


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", QUESTIONS, train=[])

    with pytest.raises(DataError, match=r"train.jsonl: holds no row; task 'questions' needs at least one"):
        build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "out"), HashEncoder())
