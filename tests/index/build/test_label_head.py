"""Label heads: which tasks get one, what the version holds, and what happens to files that do not fit."""

import json
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, HashEncoder, write_task
from tests.index.builds import FailingEncoder, build_index, tree, write_moods, write_places
from tests.udr.store.test_version import rewrite_manifest
from udr.cli import main
from udr.data import row_query
from udr.errors import ArtifactError, VerificationError
from udr.retrieval import Retriever
from udr.store import LabelHeadStamp, open_searcher, open_version, read_settings, verify
from udr_index import bench, exact_values, measure
from udr_index.build import BuildConfig, Progress, build, first_settings
from udr_index.versions import compare_vectors, diff_versions

FILES = {"partitions/notes/label_head/weights.npy", "partitions/notes/label_head/codes.npy"}


def head_of(out: Path, task: str = "notes") -> LabelHeadStamp | None:
    return open_version(out).manifest.partitions[task].label_head


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moods(tmp_path_factory.mktemp("moods"))


def test_auto_gives_a_head_where_labels_can_be_told(moods: Path, tmp_path: Path) -> None:
    build_index(moods, tmp_path / "index")
    stamp = head_of(tmp_path / "index")
    assert stamp is not None and stamp.labels == ("glad", "sad") and stamp.rows == 160
    assert stamp.share > 0.9 > 0.75 > stamp.share_without
    assert tree(open_version(tmp_path / "index").path).keys() >= FILES


def test_the_fitting_tells_every_batch_of_texts(moods: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    build(BuildConfig(tasks=moods, out=tmp_path / "index", batch_size=50), HashEncoder(), seen.append)
    fitted = [(each.done, each.total) for each in seen if each.stage == "fitted"]
    assert fitted == [(done, 160) for done in (0, 50, 100, 150, 160)]


@pytest.mark.parametrize("options", [{"told": False}, {"count": 99}], ids=["random labels", "a small pool"])
def test_auto_gives_none_without_a_gain(tmp_path: Path, options: dict[str, Any]) -> None:
    tasks, encoder = write_moods(tmp_path / "tasks", **options), HashEncoder()
    build_index(tasks, tmp_path / "index", encoder)
    assert head_of(tmp_path / "index") is None
    # A small pool is not even encoded as queries.
    assert len(encoder.queries) == (160 if "told" in options else 0)
    build_index(tasks, tmp_path / "asked", label_head=True)
    assert head_of(tmp_path / "asked") is not None


def test_copies_of_a_row_do_not_tell_its_label(moods: Path, tmp_path: Path) -> None:
    """Searches leave out copies of the query, and so does cross-validation; or it would see no gain here."""
    file = moods / "mood" / "notes" / "train.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    copied = [
        {**row, "id": f"{row['id']}-{number}", "input": {"text": row["input"]["text"] + "!" * number}}
        for row in rows
        for number in range(5)
    ]
    write_task(tmp_path / "tasks", NOTES, train=copied)
    encoder = HashEncoder()
    build_index(tmp_path / "tasks", tmp_path / "index", encoder)
    stamp = head_of(tmp_path / "index")
    assert stamp is not None and stamp.rows == len(encoder.queries) == 160
    assert stamp.share > 0.9 > 0.75 > stamp.share_without


def test_cross_validation_searches_the_whole_pool(tmp_path: Path) -> None:
    """Each text has four more of its label, one word apart; a sample of the pool would lack half of them."""
    draw = np.random.default_rng(0)
    rows = [
        {"id": f"{n}-{m}", "input": {"text": " ".join(f"w{n}x{i}" for i in range(8) if i != m)}, "target": label}
        for n, label in enumerate(draw.choice(["glad", "sad"], 600).tolist())
        for m in range(5)
    ]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    build_index(tmp_path / "tasks", tmp_path / "index", HashEncoder(256), label_head=True)
    stamp = head_of(tmp_path / "index")
    assert stamp is not None and stamp.share_without > 0.9


def test_random_labels_get_no_head_from_any_seed(tmp_path: Path) -> None:
    """A choice among several settings finds a gain by chance; the bound of the standard error keeps it out."""
    draw = np.random.default_rng(0)
    for seed in range(10):
        rows = [
            {
                "id": f"{n}",
                "input": {"text": f"{draw.integers(50)} {draw.integers(50)}"},
                "target": "glad sad".split()[b],
            }
            for n, b in enumerate(draw.integers(2, size=120).tolist())
        ]
        tasks = tmp_path / f"tasks-{seed}"
        write_task(tasks, NOTES, train=rows)
        build_index(tasks, tmp_path / f"{seed}")
        assert head_of(tmp_path / f"{seed}") is None


def test_only_what_is_considered_changes_the_version_s_name(moods: Path, tmp_path: Path) -> None:
    names = {
        choice: build_index(moods, tmp_path / str(choice), label_head=choice).version for choice in (None, True, False)
    }
    assert len(set(names.values())) == 3
    small = write_moods(tmp_path / "small", 20)
    small_names = [build_index(small, tmp_path / f"s{choice}", label_head=choice).version for choice in (None, False)]
    assert len(set(small_names)) == 1


def test_equal_builds_are_equal_to_the_byte_and_whole(moods: Path, tmp_path: Path) -> None:
    first, second = (build_index(moods, tmp_path / name) for name in "ab")
    assert tree(first.path) == tree(second.path)
    assert verify(tmp_path / "a") == []
    assert list(compare_vectors(open_version(tmp_path / "a"), HashEncoder(), 32)) == []


@pytest.mark.parametrize("kind", ["flat", "IVF4,SQ8"])
def test_vectors_are_reused_with_and_without_a_head(moods: Path, tmp_path: Path, kind: str) -> None:
    build_index(moods, tmp_path / "plain", label_head=False, kind=kind)
    encoder = HashEncoder()
    built = build_index(moods, tmp_path / "headed", encoder, reuse=tmp_path / "plain", kind=kind)
    assert encoder.demonstrations == [] and (built.encoded, len(encoder.queries)) == (160, 160)
    again = build_index(moods, tmp_path / "again", encoder, reuse=tmp_path / "headed", label_head=False, kind=kind)
    assert encoder.demonstrations == [] and again.encoded == 0
    plain = open_version(tmp_path / "plain").vectors("notes")
    assert np.array_equal(open_version(tmp_path / "headed").vectors("notes"), plain)


def test_a_build_that_fails_resumes(moods: Path, tmp_path: Path) -> None:
    whole = tree(build_index(moods, tmp_path / "whole", shard_rows=64, batch_size=64).path)
    with pytest.raises(MemoryError):
        build_index(moods, tmp_path / "index", FailingEncoder(3), shard_rows=64, batch_size=64)
    encoder = HashEncoder()
    assert tree(build_index(moods, tmp_path / "index", encoder, shard_rows=64, batch_size=64).path) == whole
    assert len(encoder.demonstrations) == 32


def test_bench_measures_the_search_that_the_head_ranks(moods: Path, tmp_path: Path) -> None:
    build_index(moods, tmp_path / "index", kind="IVF16,Flat")
    version = open_version(tmp_path / "index")
    (measured,) = bench(version, HashEncoder(), 1.0, k=5, queries=50)
    assert measured.recall == 1.0 and measured.settings == read_settings(version.path, version.manifest)["notes"]
    (few,) = bench(version, HashEncoder(), 1.0, k=5, queries=50, choices=lambda kind: [first_settings("IVF64,Flat")])
    assert few.recall < 1.0


def test_bench_finds_settings_for_searches_without_the_head_as_well(moods: Path, tmp_path: Path) -> None:
    build_index(moods, tmp_path / "index", kind="IVF8,SQ8")
    version = open_version(tmp_path / "index")
    (measured,) = bench(version, HashEncoder(), 1.0, k=5, queries=160)
    assert measured.recall == 1.0 and measured.settings is not None
    table, task = version.demonstrations(), version.manifest.partitions["notes"].task
    with closing(table):
        queries = HashEncoder().encode_queries([row_query(task, row) for row in table.every("notes")])
    searcher = open_searcher(version, "notes", measured.settings)
    assert measure(searcher, queries, exact_values(version.vectors("notes"), queries, 5))[0] == 1.0


def test_a_diff_shows_the_head(moods: Path, tmp_path: Path) -> None:
    old = build_index(moods, tmp_path, label_head=False).version
    new = build_index(moods, tmp_path).version
    changed = {item.path for item in diff_versions(tmp_path, old, new).differences}
    assert "tasks.notes.label_head.alpha" in changed and all("label_head" in path for path in changed)


def test_info_shows_the_head(moods: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_index(moods, tmp_path / "index")
    stamp = head_of(tmp_path / "index")
    assert stamp is not None and main(["index", "info", str(tmp_path / "index"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"]["notes"]["label_head"] == stamp.to_json()
    assert main(["index", "info", str(tmp_path / "index")]) == 0
    assert f"  label head (alpha {stamp.alpha:g}; same label among the nearest: " in capsys.readouterr().out


def test_a_head_that_is_asked_for_and_cannot_be_fitted_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        build_index(write_places(tmp_path / "tasks"), tmp_path / "index", label_head=True)
    assert head_of(tmp_path / "index", "questions") is None
    assert "task questions: no label head: it takes 2 to 256 labels in the pool" in caplog.text


def test_a_head_that_gains_too_little_says_what_hides_a_gain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a training on this pool's labels, the nearest rows have the right one as those of new queries do not."""
    with caplog.at_level(logging.INFO):
        build_index(write_moods(tmp_path / "tasks", told=False), tmp_path / "index")
    assert head_of(tmp_path / "index") is None
    assert "gains too little" in caplog.text
    assert "an encoder that was trained on this pool hides a gain: compare with --label-head" in caplog.text


def test_rows_of_rare_labels_stay_in_the_pool(tmp_path: Path) -> None:
    """A label with one row has a chance as well; cross-validation just cannot learn it."""
    write_moods(tmp_path / "tasks")
    file = tmp_path / "tasks" / "mood" / "notes" / "train.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    keys = {**NOTES, "labels": ["glad", "sad", "odd"]}
    write_task(tmp_path / "tasks", keys, train=[*rows, {"id": "z", "input": {"text": "zzz"}, "target": "odd"}])
    build_index(tmp_path / "tasks", tmp_path / "index")
    with Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever:
        found = retriever.retrieve("notes", "zzz zz", 161)
    assert len(found) == 161 and head_of(tmp_path / "index").labels == ("glad", "odd", "sad")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"labels": ["glad"]}, "the labels of the label head of task 'notes' cannot be"),
        ({"labels": ["glad", "glad"]}, "the labels of the label head of task 'notes' cannot be"),
        ({"alpha": -1.0}, "the alpha of the label head of task 'notes' cannot be -1.0"),
        ({"alpha": "1"}, "the alpha of the label head of task 'notes' cannot be '1'"),
        ({"width": 10**9}, "the width of the label head of task 'notes' cannot be 1000000000"),
        ({"width": 1}, "the width of the label head of task 'notes' cannot be 1"),
        ({"depth": 1}, "unexpected keyword argument 'depth'"),
    ],
    ids=str,
)
def test_a_manifest_of_a_stranger_is_checked(moods: Path, tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    built = build_index(moods, tmp_path)
    tasks = json.loads((built.path / "manifest.json").read_bytes())["tasks"]
    tasks["notes"]["label_head"] |= keys
    rewrite_manifest(tmp_path, tasks=tasks)
    with pytest.raises(ArtifactError, match=message):
        open_version(tmp_path)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("codes", np.full(160, 2, np.int32), "its numbers are not weights of labels"),
        ("codes", np.zeros(160, np.int64), "another shape or dtype"),
        ("codes", np.zeros(150, np.int32), "another shape or dtype"),
        ("weights", np.full((2, 49), np.nan), "its numbers are not weights of labels"),
        ("weights", np.zeros((2, 48)), "another shape or dtype"),
    ],
    ids=str,
)
def test_arrays_of_a_stranger_are_checked(
    moods: Path, tmp_path: Path, file: str, array: np.ndarray[Any, Any], message: str
) -> None:
    built = build_index(moods, tmp_path)
    np.save(built.path / "partitions" / "notes" / "label_head" / f"{file}.npy", array)
    with pytest.raises(VerificationError):
        Retriever.open(tmp_path, encoder=HashEncoder())
    with pytest.raises(ArtifactError, match=message):
        open_version_unchecked(built.path).label_head("notes")


def open_version_unchecked(folder: Path) -> Any:
    from udr.store import IndexVersion, read_manifest

    return IndexVersion(folder, read_manifest(folder))
