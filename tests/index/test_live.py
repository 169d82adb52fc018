"""``udr index put``, ``get``, ``list``, ``delete`` and ``compact``."""

import errno
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.fakes import HashEncoder
from tests.index.builds import tree
from tests.live_model import SIZES, Model, build_pools, comparing, random_pools, random_row, step
from tests.tiny_models import save_encoder
from udr import Retriever, Row
from udr.cli import main
from udr.errors import ArtifactError, NotWriterError
from udr.files import locked
from udr.store import (
    COMPACTING,
    SearchSettings,
    open_version,
    publish,
    read_current,
    read_settings,
    read_weights,
    verify,
    write_settings,
    write_weights,
)
from udr_index.build import BuildConfig, build
from udr_index.versions import prune
from udr_index.versions.live import compact, verify_log


@pytest.mark.parametrize("options", [{}, {"kind": "IVF2,Flat"}, {"label_head": None}, {"dtype": "float16"}])
def test_compaction_makes_the_version_that_a_build_makes(options: dict[str, object], tmp_path: Path) -> None:
    draw, out = random.Random(0), tmp_path / "index"
    pools = random_pools(draw, SIZES)
    first = build_pools(tmp_path / "tasks", out, pools, **options)
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        for n in range(40, 75):
            pools["notes"][f"n{n:03}"] = row = random_row(draw, f"n{n:03}", n)
            retriever.put("notes", row)
        for n in range(9):
            del pools["diary"][f"d{n:03}"]
        retriever.delete("diary", [f"d{n:03}" for n in range(9)])
    done = compact(out, HashEncoder())
    fresh = build_pools(tmp_path / "tasks", tmp_path / "fresh", pools, **options)
    assert (done.version, done.previous, done.position) == (fresh, first, 36)
    assert tree(out / "versions" / fresh) == tree(tmp_path / "fresh" / "versions" / fresh)
    assert read_current(out) == fresh and verify(out) == [] == verify_log(out)
    assert compact(out, HashEncoder()).version == fresh
    # The writes are still there for another version, unless they are forgotten.
    for forget in (False, True):
        if forget:
            assert compact(out, HashEncoder(), forget=True).forgotten
        publish(out, first)
        with Retriever.open(out, encoder=HashEncoder()) as retriever:
            expected = SIZES if forget else {task: len(rows) for task, rows in pools.items()}
            assert (dict(retriever.sizes), retriever.overlay_position) == (expected, 36)
        publish(out, fresh)


def test_compaction_keeps_what_was_measured(tmp_path: Path) -> None:
    out, kind = tmp_path / "index", "IVF2,Flat"
    build_pools(tmp_path / "tasks", out, random_pools(random.Random(0), SIZES), kind=kind)
    settings, weights = dict.fromkeys(SIZES, SearchSettings(parameters="nprobe=2", oversample=3)), {"notes": 0.3}
    old = open_version(out)
    write_settings(old.path, old.manifest, settings)
    write_weights(old.path, old.manifest, weights)
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        retriever.delete("notes", ["n000"])
    compact(out, HashEncoder())
    new = open_version(out)
    assert new.manifest.version != old.manifest.version
    assert read_settings(new.path, new.manifest) == settings and read_weights(new.path, new.manifest) == weights


def test_compaction_to_a_version_of_before_keeps_what_was_measured_since(tmp_path: Path) -> None:
    out, row = tmp_path / "index", random_row(random.Random(1), "new", 0)
    build_pools(tmp_path / "tasks", out, random_pools(random.Random(0), SIZES), kind="IVF2,Flat")
    first = open_version(out)
    write_weights(first.path, first.manifest, {"notes": 0.7, "diary": 0.4})
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        retriever.put("notes", row)
    compact(out, HashEncoder())
    second, measured = open_version(out), SearchSettings(parameters="nprobe=2", oversample=3)
    left = read_settings(second.path, second.manifest)["diary"]
    write_settings(second.path, second.manifest, {"notes": measured, "diary": left})
    write_weights(second.path, second.manifest, {"notes": 0.2})
    with Retriever.open(out, encoder=HashEncoder()) as retriever:
        retriever.delete("notes", ["new"])

    assert compact(out, HashEncoder()).version == first.manifest.version

    assert read_settings(first.path, first.manifest) == {"notes": measured, "diary": left} and verify(out) == []
    assert read_weights(first.path, first.manifest) == {"notes": 0.2, "diary": 0.4}


@pytest.mark.parametrize("kind", ["flat", "IVF2,Flat"])
def test_compaction_changes_no_answer(kind: str, tmp_path: Path) -> None:
    compare = comparing(tmp_path)
    draw, model, out = random.Random(4), Model(), tmp_path / "index"
    pools = random_pools(draw, SIZES)
    model.versions[build_pools(tmp_path / "tasks", out, pools, kind=kind)] = pools
    with Retriever.open(out, encoder=HashEncoder()) as old:
        for _ in range(3):
            for _ in range(4):
                step(draw, old, model)
            rows = model.pools(old.index_version)
            # The log is not shortened, since this process writes.
            version = compact(out, HashEncoder()).version
            model.versions[version] = rows
            step(draw, old, model)
            with Retriever.open(out, encoder=HashEncoder()) as new:
                assert new.index_version == version
                compare(new, model.pools(version), draw)
                compare(old, model.pools(old.index_version), draw)


def test_a_compaction_that_fails_or_was_killed_leaves_no_folder_behind(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert (copy / COMPACTING / "partitions" / "notes" / "vectors.npy").is_file()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def folders() -> list[str]:
        return sorted(path.name for path in copy.iterdir() if path.is_dir())

    with Retriever.open(copy, encoder=HashEncoder()) as retriever, monkeypatch.context() as full:
        full.setattr("udr_index.build.staging.sync_tree", fail)
        for number in range(2):
            # After each write it would be another version.
            retriever.put("notes", Row(id=f"x{number}", input={"text": f"number {number}"}, target="sad"))
            with pytest.raises(OSError, match="No space left"):
                compact(copy, HashEncoder())
            assert folders() == ["live", "versions"]
    # As a killed one leaves it, with vectors of other rows.
    shutil.copytree(copy / "versions" / read_current(copy), copy / COMPACTING)
    assert verify(copy) == []
    assert compact(copy, HashEncoder()).sizes["notes"] == 22
    assert folders() == ["live", "versions"] and verify(copy) == []
    (copy / COMPACTING / "partitions").mkdir(parents=True)
    assert prune(copy, 2).leftovers == (COMPACTING,) and folders() == ["live", "versions"]


def test_compaction_refuses_what_it_cannot_do(copy: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        with locked(copy), pytest.raises(ArtifactError, match="is in use by"):
            compact(copy, HashEncoder())
        retriever.delete("notes", "n00")
        with pytest.raises(NotWriterError, match="another process writes"):
            compact(copy, HashEncoder(), forget=True)


def test_commands(tmp_path: Path, collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_encoder(tmp_path / "model")
    index = tmp_path / "index"
    first = build(BuildConfig(tasks=collection, out=index, model=str(tmp_path / "model"), device="cpu")).version
    rows = tmp_path / "rows.jsonl"
    keys = [{"id": id, "input": {"text": f"a {id} day"}, "target": "glad"} for id in ("n00", "new")]
    rows.write_text("".join(json.dumps(row) + "\n" for row in keys))

    def run(*arguments: str, status: int = 0) -> str:
        assert main(["index", *arguments]) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    assert run("put", str(index), "notes", str(rows)) == "1 created, 1 replaced; write 1\n"
    assert json.loads(run("get", str(index), "notes", "new")) == keys[1]
    assert "has no demonstration 'nx'" in run("get", str(index), "notes", "nx", status=1)
    assert "unknown task 'nodes'" in run("put", str(index), "nodes", str(rows), status=1)
    page = json.loads(run("list", str(index), "notes", "--limit", "3", "--json"))
    assert [row["id"] for row in page["rows"]] == ["n00", "n01", "n02"]
    rest = run("list", str(index), "notes", "--after", page["next"], "--filter", "", status=1)
    assert "filter" in rest
    assert len(run("list", str(index), "notes", "--after", page["next"]).splitlines()) == 18
    assert run("delete", str(index), "notes", "n01", "nx") == "1 deleted; write 2\n"
    assert run("delete", str(index), "notes", "--filter", '$id in ["n02", "n03"]') == "2 deleted; write 3\n"
    size = (index / "live" / "log").stat().st_size
    assert f"on top 5 rows put or deleted since, in a log of {size:,} bytes\n" in run("info", str(index))
    told = json.loads(run("info", str(index), "--json"))
    assert (told["overlay_rows"], told["overlay_bytes"]) == (5, size)
    done = json.loads(run("compact", str(index), "--json"))
    assert (done["previous"], done["position"], done["tasks"]["notes"]) == (first, 3, 18)
    assert "has all that was written" in run("compact", str(index))
    assert run("verify", str(index)) == f"{index}: intact\n"
    log = bytearray((index / "live" / "log").read_bytes())
    log[40] ^= 1
    (index / "live" / "log").write_bytes(log)
    assert main(["index", "verify", str(index), "--sample", "0"]) == 3
    assert "live/log: the head of the record at byte 32 has another checksum" in capsys.readouterr().out
