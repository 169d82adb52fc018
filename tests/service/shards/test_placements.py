"""Shards as they are built, and the manifest of where they are served."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HashEncoder
from tests.service.shards.conftest import NUMBER
from udr.cli import main
from udr.client.shards import read_placements
from udr.errors import ArtifactError, ConfigError
from udr_index.build import BuildConfig, build
from udr_index.versions import PLACEMENTS, build_shards, place, upload


def test_shards_are_the_same_alone_and_hold_each_row_once(tmp_path: Path, collection: Path, shards: Path) -> None:
    config = BuildConfig(tasks=collection, out=tmp_path, bm25=False)
    (alone,) = build_shards(config, NUMBER, 2, encoder=HashEncoder())
    together = read_placements(shards / PLACEMENTS)
    assert alone.version == together.shards[1].version
    assert not (tmp_path / PLACEMENTS).exists()
    assert together.sizes == {"notes": 20, "questions": 24, "reviews": 18}


def test_placements_that_cannot_be_searched_as_one_are_refused(tmp_path: Path, index: Path, shards: Path) -> None:
    path = tmp_path / "placements"
    with pytest.raises(ConfigError, match=r"both have the row .* of task"):
        place(path, {index: ["http://a"], shards / "shard-1-of-3": ["http://b"]})
    assert not path.exists()
    place(path, {shards / "shard-1-of-3": []})
    with pytest.raises(ArtifactError, match="no service is named for shard shard-1-of-3; write its address into urls"):
        read_placements(path)
    path.write_text('{"format": 1}')
    with pytest.raises(ArtifactError, match="is no manifest of placements: 'encoder' is missing; run: udr index place"):
        read_placements(path)


def test_shards_have_names_of_their_own(tmp_path: Path, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in ("notes", "questions"):
        build(BuildConfig(tasks=collection, out=tmp_path / task / "index", names=(task,), bm25=False), HashEncoder())
    with pytest.raises(ConfigError, match=r"notes/index and .*questions/index: answers name a shard by its folder"):
        place(tmp_path / "placements", {tmp_path / task / "index": ["http://a"] for task in ("notes", "questions")})
    assert not (tmp_path / "placements").exists()
    monkeypatch.chdir(tmp_path / "notes" / "index")
    place(tmp_path / "placements", {Path(): ["http://a"]})
    assert [shard.name for shard in read_placements(tmp_path / "placements").shards] == ["index"]


def test_shards_on_a_store_are_placed_by_their_manifests(
    tmp_path: Path, index: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    store, path, together = f"memory://{tmp_path.name}", tmp_path / "placements", read_placements(shards / PLACEMENTS)
    for n in range(1, NUMBER + 1):
        upload(shards / f"shard-{n}-of-3", "CURRENT", f"{store}/shard-{n}-of-3")
    urls = {f"{store}/{shard.name}": shard.urls for shard in together.shards}
    assert main(["index", "place", str(path), *(f"{url}={each[0]}" for url, each in urls.items())]) == 0
    placed = read_placements(path)
    assert (placed.version, placed.manifest) == (together.version, together.manifest)
    for shard, expected in zip(placed.shards, together.shards, strict=True):
        assert replace(shard, row_bytes={}) == replace(expected, row_bytes={})
        # The file has keys and indexes, too.
        assert all(shard.row_bytes[task] >= size for task, size in expected.row_bytes.items())
    assert not (tmp_path / "cache").exists()
    first = Path(f"{store}/shard-1-of-3")
    upload(index, "CURRENT", f"{store}/whole")
    with pytest.raises(ConfigError, match=r"both have rows of task .*, and rows on a store are not compared"):
        place(path, {first: ["http://a"], Path(f"{store}/whole"): ["http://b"]})
    upload(shards / "shard-1-of-3", "CURRENT", f"{store}/shard-2-of-4")
    with pytest.raises(ConfigError, match=r"both are version [0-9a-f]{16}; name each once"):
        place(path, {first: ["http://a"], Path(f"{store}/shard-2-of-4"): ["http://b"]})


def test_name_of_a_shard_alone_proves_nothing_of_rows_that_are_here(tmp_path: Path, index: Path, shards: Path) -> None:
    shutil.copytree(index, tmp_path / "shard-2-of-3")
    with pytest.raises(ConfigError, match=r"both have the row .* of task"):
        place(tmp_path / "placements", {shards / "shard-1-of-3": ["http://a"], tmp_path / "shard-2-of-3": ["http://b"]})


DAMAGE: Sequence[tuple[str, Any, str]] = [
    ("shards", [], "it has no shard"),
    ("wording", 7, "the wording"),
    ("encoder", {"name": "e", "fingerprint": "f", "dimension": "wide", "metric": "cosine"}, "the encoder's dimension"),
    ("encoder", {"name": "e", "fingerprint": "f", "dimension": 3, "metric": "weird"}, "the encoder's metric"),
]


@pytest.mark.parametrize(("name", "value", "problem"), DAMAGE, ids=[problem for _, _, problem in DAMAGE])
def test_values_of_placements_are_checked(name: str, value: Any, problem: str, tmp_path: Path, shards: Path) -> None:
    keys = json.loads((shards / PLACEMENTS).read_text())
    (tmp_path / "placements").write_text(json.dumps({**keys, name: value}))
    with pytest.raises(ArtifactError, match=f"is no manifest of placements: {problem}"):
        read_placements(tmp_path / "placements")


@pytest.mark.parametrize("label_head", [None, False])
def test_a_build_says_once_that_shards_have_no_label_heads(
    label_head: bool | None, tmp_path: Path, collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = BuildConfig(tasks=collection, out=tmp_path, names=("notes", "reviews"), bm25=False, label_head=label_head)
    with caplog.at_level("INFO", "udr_index"):
        list(build_shards(config, 2, encoder=HashEncoder()))
    said = [message for message in caplog.messages if "label head" in message]
    told = "no label head for notes, reviews: one is fitted on a whole pool, so shards have none"
    assert said == ([told] if label_head is None else [])


def test_shards_of_samples_or_with_label_heads_are_refused(tmp_path: Path, collection: Path) -> None:
    with pytest.raises(ConfigError, match="a shard is a part of the whole pool"):
        list(build_shards(BuildConfig(tasks=collection, out=tmp_path, pool=5), 2, encoder=HashEncoder()))
    with pytest.raises(ConfigError, match="shards have none"):
        list(build_shards(BuildConfig(tasks=collection, out=tmp_path, label_head=True), 2, encoder=HashEncoder()))
    with pytest.raises(ConfigError, match="the shard must be from 1 to the number of shards, 2; found 3"):
        list(build_shards(BuildConfig(tasks=collection, out=tmp_path), 2, 3, encoder=HashEncoder()))
    with pytest.raises(ConfigError, match="memory://pools is on a remote store, where shards cannot be built"):
        list(build_shards(BuildConfig(tasks=collection, out=Path("memory://pools")), 2, encoder=HashEncoder()))
    with pytest.raises(ConfigError, match="shard 2 of 400 has no row of any task; make fewer shards"):
        list(build_shards(BuildConfig(tasks=collection, out=tmp_path), 400, 2, encoder=HashEncoder()))
