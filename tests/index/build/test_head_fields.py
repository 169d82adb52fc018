"""Label heads that read the two fields of a query apart: where they are kept, and what the version holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HashEncoder, write_task
from tests.index.builds import PAIRS, build_index, tree, write_moods, write_pairs
from tests.udr.store.test_version import rewrite_manifest
from udr import Retriever
from udr.cli import main
from udr.errors import ArtifactError
from udr.models import RECORD
from udr.store import LabelHeadStamp, open_version, verify
from udr_index import bench
from udr_index.versions import diff_versions
from udr_index.versions.live import compact

TRAIN = Path("pair", "pairs", "train.jsonl")


def head_of(out: Path) -> LabelHeadStamp:
    stamp = open_version(out).manifest.partitions["pairs"].label_head
    assert stamp is not None
    return stamp


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def test_fields_are_read_apart_where_cross_validation_gains(pairs: Path, tmp_path: Path) -> None:
    encoder = HashEncoder()
    built = build_index(pairs, tmp_path / "index", encoder)
    stamp, version = head_of(tmp_path / "index"), open_version(tmp_path / "index")
    assert stamp.fields == ("first", "second") and stamp.share > 0.9 > 0.7 > stamp.share_without
    # Each row is read as a demonstration, as a query, and in both fields.
    assert built.encoded == 4 * 160 and len(encoder.queries) == 3 * 160
    head = version.label_head("pairs")
    assert head is not None and head.weights.shape == (2, 4 * 48 + 1) and head.fields == stamp.fields
    assert verify(tmp_path / "index") == []
    assert tree(build_index(pairs, tmp_path / "again").path) == tree(built.path)


def test_they_are_not_where_the_whole_query_tells_as_much(tmp_path: Path) -> None:
    build_index(write_pairs(tmp_path / "tasks", by_first=True), tmp_path / "index")
    assert head_of(tmp_path / "index").fields == () and head_of(tmp_path / "index").share > 0.9


@pytest.mark.parametrize(("trained", "fields"), [(["pairs"], ("first", "second")), (["moods"], ()), (None, ())])
def test_an_encoder_that_was_trained_on_the_pool_reads_fields_apart_where_they_gain_over_no_head(
    tmp_path: Path, trained: list[str] | None, fields: tuple[str, ...]
) -> None:
    """It knows the pool's rows as whole texts, whose labels would seem to be told as well by a whole query."""
    encoder: Any = HashEncoder()
    encoder.path = tmp_path
    (tmp_path / RECORD).write_text(json.dumps({} if trained is None else {"tasks": trained}), "utf-8")
    build_index(write_pairs(tmp_path / "tasks", by_first=True), tmp_path / "index", encoder)
    assert head_of(tmp_path / "index").fields == fields


def test_the_format_is_a_later_one_only_if_fields_are_read_apart(pairs: Path, tmp_path: Path) -> None:
    """Earlier code would refuse such a manifest; all others keep their bytes, and their names."""
    formats = {}
    choices: dict[str, dict[str, Any]] = {"fields": {}, "whole": {"head_fields": False}, "none": {"label_head": False}}
    for name, options in choices.items():
        built = build_index(pairs, tmp_path / name, **options)
        keys = json.loads((built.path / "manifest.json").read_bytes())
        formats[name] = keys["format"], "fields" in keys["tasks"]["pairs"].get("label_head", {})
    assert formats == {"fields": (5, True), "whole": (4, False), "none": (4, False)}


def test_the_option_changes_the_name_of_versions_with_two_fields_alone(pairs: Path, tmp_path: Path) -> None:
    moods = write_moods(tmp_path / "moods")
    names = {
        (tasks, head_fields): build_index(
            tasks, tmp_path / f"{tasks.name}-{head_fields}", head_fields=head_fields
        ).version
        for tasks in (pairs, moods)
        for head_fields in (True, False)
    }
    assert names[pairs, True] != names[pairs, False] and names[moods, True] == names[moods, False]


def test_vectors_are_reused_and_a_diff_shows_the_fields(pairs: Path, tmp_path: Path) -> None:
    old = build_index(pairs, tmp_path, head_fields=False).version
    encoder = HashEncoder()
    new = build_index(pairs, tmp_path, encoder, reuse=tmp_path).version
    assert encoder.demonstrations == []
    assert "tasks.pairs.label_head.fields" in {item.path for item in diff_versions(tmp_path, old, new).differences}


def test_compaction_asks_for_heads_as_the_build_did(tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index(write_pairs(tmp_path / "tasks", 41), out, head_fields=False, label_head=True)
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        retriever.delete("pairs", ["p040"])
    fewer = write_pairs(tmp_path / "fewer", 40)
    fresh = build_index(fewer, tmp_path / "fresh", head_fields=False, label_head=True).version
    assert compact(out, HashEncoder()).version == fresh and head_of(out).fields == ()


@pytest.mark.parametrize("kind", ["flat", "IVF16,Flat"])
def test_bench_measures_the_search_that_the_head_ranks(pairs: Path, tmp_path: Path, kind: str) -> None:
    build_index(pairs, tmp_path / "index", kind=kind)
    (measured,) = bench(open_version(tmp_path / "index"), HashEncoder(), 1.0, k=5, queries=50)
    assert measured.recall == 1.0


def test_choices_of_a_row_are_a_field(tmp_path: Path) -> None:
    """A row may have them beside its input, as everything else that reads rows takes them."""
    rows = [json.loads(line) for line in (write_pairs(tmp_path / "pairs") / TRAIN).read_text().splitlines()]
    beside = [
        {**row, "input": {"first": row["input"]["first"]}, "choices": row["input"]["second"].split()} for row in rows
    ]
    within = [{**row, "input": {**row["input"], "choices": row["choices"]}} for row in beside]
    read = {}
    for name, own in {"beside": beside, "within": within}.items():
        write_task(tmp_path / name, {**PAIRS, "input": "First: {first}\nSecond: {choices}"}, train=own)
        encoder = HashEncoder()
        build_index(tmp_path / name, tmp_path / f"{name}-index", encoder)
        assert head_of(tmp_path / f"{name}-index").fields == ("first", "choices")
        (measured,) = bench(open_version(tmp_path / f"{name}-index"), encoder, 1.0, k=5, queries=50)
        assert measured.recall == 1.0
        read[name] = encoder.queries
    assert ", ".join(beside[0]["choices"]) in read["beside"]
    assert read["beside"] == read["within"]


def test_info_says_what_it_costs(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_index(pairs, tmp_path / "index")
    assert main(["index", "info", str(tmp_path / "index")]) == 0
    assert "; reads first and second apart, by 2 more passes of the encoder)" in capsys.readouterr().out
    assert main(["index", "info", str(tmp_path / "index"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["tasks"]["pairs"]["label_head"]
    assert shown == head_of(tmp_path / "index").to_json() and shown["fields"] == ["first", "second"]


@pytest.mark.parametrize("fields", [["first"], ["second", "first"], ["first", "third"], ["first", "second", "first"]])
def test_a_manifest_of_a_stranger_is_checked(pairs: Path, tmp_path: Path, fields: list[str]) -> None:
    built = build_index(pairs, tmp_path)
    tasks: dict[str, Any] = json.loads((built.path / "manifest.json").read_bytes())["tasks"]
    tasks["pairs"]["label_head"]["fields"] = fields
    rewrite_manifest(tmp_path, tasks=tasks)
    with pytest.raises(ArtifactError, match="the fields of the label head of task 'pairs' cannot be"):
        open_version(tmp_path)
