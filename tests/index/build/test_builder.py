"""Building: equal inputs give equal bytes, other inputs another version, and invalid ones change nothing."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_collection, write_task
from tests.index.builds import build_index, replace_once, tree
from udr.data import encoder_demonstration, open_collection
from udr.errors import ArtifactError, ConfigError, DataError, ModelError, UdrError, UnknownTaskError, VerificationError
from udr.files import locked
from udr.models import fingerprint
from udr.search import Vectors
from udr.store import open_version, read_current, verify
from udr_index.build import BuildConfig, build


def test_vectors_are_in_the_order_of_the_ids(index: Path, collection: Path) -> None:
    version, pool = open_version(index), open_collection(collection).tasks["reviews"].pool()
    texts = [encoder_demonstration(pool.task, row) for row in pool.rows]

    assert [row.id for row in pool.rows] == sorted(row.id for row in pool.rows)
    assert np.array_equal(version.vectors("reviews"), HashEncoder().encode_demonstrations(texts))


def test_equal_texts_are_encoded_once_in_batches_by_length(collection: Path, tmp_path: Path) -> None:
    class BatchEncoder(HashEncoder):
        def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
            sizes.append(len(texts))
            return super().encode_demonstrations(texts)

    sizes, encoder = list[int](), BatchEncoder()
    built = build_index(collection, tmp_path, encoder, names=("reviews",), batch_size=4)

    assert built.sizes == {"reviews": 18}
    assert built.encoded == len(encoder.demonstrations) == len(set(encoder.demonstrations)) == 9
    assert [len(text) for text in encoder.demonstrations] == sorted(len(text) for text in encoder.demonstrations)
    assert sizes == [4, 4, 1]


@pytest.mark.parametrize("shard_rows", [1, 7, 18])
def test_shards_of_any_size_give_the_same_bytes(collection: Path, index: Path, tmp_path: Path, shard_rows: int) -> None:
    encoder = HashEncoder()

    built = build_index(collection, tmp_path, encoder, shard_rows=shard_rows)

    assert tree(built.path) == tree(open_version(index).path)
    assert len(encoder.demonstrations) == len(set(encoder.demonstrations))


@pytest.mark.parametrize("wrong", [np.zeros((1, 48), np.float32), np.full((20, 48), np.inf, np.float32)], ids=str)
def test_unusable_vectors_are_refused(collection: Path, tmp_path: Path, wrong: Vectors) -> None:
    encoder = HashEncoder()
    encoder.encode_demonstrations = lambda texts: wrong  # type: ignore[method-assign]

    with pytest.raises(ModelError, match=r"'fake-hash' returned vectors .* of task 'notes'"):
        build_index(collection, tmp_path, encoder)
    assert not (tmp_path / "CURRENT").exists()


def test_order_of_rows_and_tasks_does_not_matter(index: Path, tmp_path: Path) -> None:
    tasks = write_collection(tmp_path / "collection")
    lines = (tasks / "topic/questions/train.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tasks / "topic/questions/train.jsonl").write_text("".join(reversed(lines)), "utf-8")

    built = build_index(tasks, tmp_path / "out", names=("reviews", "questions", "notes"))

    assert built.version == read_current(index)
    expected, result = tree(index), tree(tmp_path / "out")
    assert {**result, ".lock": b""} == {**expected, ".lock": b""}


NOTES_ROWS = "mood/notes/train.jsonl"


@pytest.mark.parametrize(
    "change",
    [
        lambda root: replace_once(root / NOTES_ROWS, "fine", "good"),
        lambda root: replace_once(root / NOTES_ROWS, "}\n", ', "metadata": {"a": 1}}\n'),
        lambda root: write_task(root, {**NOTES, "output": "The mood: {target}"}) and None,
        lambda root: replace_once(root / "mood/family.toml", "Give", "Tell"),
        lambda _: {"names": ("notes", "questions")},
        lambda _: {"pool": 17},
        lambda _: {"dtype": "float16"},
        lambda _: {"kind": "hnsw"},
        lambda _: {"encoder": HashEncoder(salt="other")},
        lambda _: {"encoder": HashEncoder(name="another name")},
    ],
)
def test_other_inputs_give_another_version(index: Path, tmp_path: Path, change: Any) -> None:
    tasks = write_collection(tmp_path / "collection")

    built = build_index(tasks, tmp_path / "out", **(change(tasks) or {}))

    assert built.version != read_current(index)
    assert verify(tmp_path / "out") == []


def test_pools_are_sampled_by_seed(collection: Path, tmp_path: Path) -> None:
    def ids(name: str, seed: int = 0) -> list[str]:
        built = build_index(collection, tmp_path / name, pool=5, seed=seed)
        assert built.sizes == {"notes": 5, "questions": 5, "reviews": 5}
        return open_version(tmp_path / name).demonstrations().ids("notes", range(5))

    assert ids("a") == ids("b") != ids("c", seed=1)


def test_existing_version_is_published_again_without_encoding(collection: Path, tmp_path: Path) -> None:
    first, second = build_index(collection, tmp_path), build_index(collection, tmp_path, pool=3)
    assert read_current(tmp_path) == second.version != first.version

    again = build_index(collection, tmp_path)

    assert (again.version, again.encoded, read_current(tmp_path)) == (first.version, 0, first.version)
    assert {path.name for path in (tmp_path / "versions").iterdir()} == {first.version, second.version}


def test_damaged_version_is_not_published_again(collection: Path, tmp_path: Path) -> None:
    built = build_index(collection, tmp_path)
    (built.path / "demonstrations.sqlite").write_bytes(b"")

    with pytest.raises(VerificationError, match=r"damaged: demonstrations.sqlite: is truncated.*remove that folder"):
        build_index(collection, tmp_path)


def test_local_model_is_copied_into_the_index(collection: Path, tmp_path: Path) -> None:
    model, encoder = tmp_path / "model", HashEncoder(name=str(tmp_path / "model"))
    (model / "1_Pooling").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "README.md", "1_Pooling/config.json"):
        (model / name).write_text(name, "utf-8")
    with pytest.raises(ModelError, match=r"changed while the index was built"):
        build_index(collection, tmp_path / "out", encoder)
    encoder.fingerprint = fingerprint(model)
    files = tree(model)

    built = build_index(collection, tmp_path / "out", encoder)
    shutil.rmtree(model)
    shutil.move(tmp_path / "out", tmp_path / "moved")

    copied = open_version(tmp_path / "moved").model
    assert copied == str(tmp_path / "moved" / "versions" / built.version / "model")
    assert tree(Path(copied)) == files
    assert verify(tmp_path / "moved") == []


@pytest.mark.parametrize(
    ("folder", "file", "named"),
    [
        ("my\u00a0model", "config.json", "the encoder's name cannot be "),
        ("/".join(["long" * 40] * 4), "config.json", "the encoder's name cannot be"),
        ("model", "Icon\r", r"a file's path, .* cannot be 'model/Icon.r'"),
    ],
)
def test_names_that_no_index_may_hold_are_refused_before_anything_is_encoded(
    collection: Path, index: Path, tmp_path: Path, folder: str, file: str, named: str
) -> None:
    model = tmp_path / folder
    model.mkdir(parents=True)
    (model / file).write_text("{}", "utf-8")
    out = Path(shutil.copytree(index, tmp_path / "out"))
    encoder = HashEncoder(name=str(model))
    with pytest.raises(ConfigError, match=f"{named}.*at most 512 printable characters; rename or move them"):
        build_index(collection, out, encoder)
    # The index is as it was, and opens.
    assert open_version(out).manifest == open_version(index).manifest and encoder.demonstrations == []


def test_version_holds_neither_pickles_nor_times(index: Path) -> None:
    files = tree(open_version(index).path)

    assert {Path(name).suffix for name in files} == {".json", ".sqlite", ".npy"}
    assert not {"time", "date", "created"} & set(json.loads(files["manifest.json"]))


BAD: dict[str, tuple[Mapping[str, Any], type[UdrError], str]] = {
    "no such folder": ({"tasks": Path("/no/such/folder")}, ConfigError, "no such folder of tasks"),
    "unknown task": (
        {"names": ("nope",)},
        UnknownTaskError,
        "unknown task 'nope'; the tasks are notes, questions, rev",
    ),
    "no task": ({"names": ()}, ConfigError, "the list of tasks is empty"),
    "empty pool": ({"pool": 0}, ConfigError, "at least 1 demonstration per task, found 0"),
    "empty batch": ({"batch_size": 0}, ConfigError, "the batch size must be at least 1, found 0"),
    "negative flat_below": ({"flat_below": -1}, ConfigError, "flat_below must be at least 0, found -1"),
    "unknown dtype": ({"dtype": "int8"}, ConfigError, "unknown dtype 'int8'; the dtypes are float32, float16"),
    "unknown tokenizer": ({"tokenizer": "package:nope"}, ModelError, "'package:nope'|no installed package 'nope'"),
    "unknown model": ({"model": "package:nope"}, ModelError, "no installed package 'nope'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_refused_before_anything_is_written(collection: Path, tmp_path: Path, name: str) -> None:
    changes, kind, message = BAD[name]
    encoder = None if "model" in changes else HashEncoder()

    with pytest.raises(kind, match=message):
        build(BuildConfig(**{"tasks": collection, "out": tmp_path / "out", **changes}), encoder)
    assert not (tmp_path / "out").exists()


def test_occupied_folder_is_refused(collection: Path, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ArtifactError, match=r"is in use by process"):
        build_index(collection, tmp_path)
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(ConfigError, match=r"cannot create the index directory: .*file"):
        build_index(collection, tmp_path / "file")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("1", "place"), ("2", "nobody")], "train.jsonl:2: field 'target': 'nobody' is not one of the labels place"),
        ([(id, "place") for id in "abcb"], "train.jsonl:4: field 'id': 'b' was already used on line 2"),
        ([], "train.jsonl: contains no rows; task 'questions' needs at least one"),
    ],
    ids=["bad target", "id used twice", "no row"],
)
def test_bad_rows_are_refused_with_their_line(tmp_path: Path, rows: Sequence[tuple[str, str]], message: str) -> None:
    train: list[Mapping[str, Any]] = [
        {"id": id, "input": {"question": f"Where is {number}?"}, "target": target}
        for number, (id, target) in enumerate(rows)
    ]
    write_task(tmp_path / "tasks", QUESTIONS, train=train)

    with pytest.raises(DataError, match=message):
        build_index(tmp_path / "tasks", tmp_path / "out")
    assert list(tree(tmp_path / "out")) == [".lock"]
