"""``udr index export``, ``import``, ``backup`` and ``restore``: a live pool as one file, and back."""

import json
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from tests.fakes import NOTES, QUESTIONS, HashEncoder, write_task
from tests.index.builds import tree
from tests.waiting import until
from udr import Retriever, Row
from udr.cli import main
from udr.data import read_rows
from udr.errors import ArtifactError, ConfigError, DataError, NotWriterError, UnknownTaskError, VerificationError
from udr.files import locked
from udr.store import open_version
from udr_index.build import BuildConfig, build
from udr_index.versions.live import backup, compact, export_rows, import_rows, open_rows, restore

CHOICES = {
    **{name: QUESTIONS[name] for name in ("family", "instruction", "input", "metric")},
    **{"name": "choices", "kind": "multiple_choice", "output": "{target}"},
}
FREE = {**CHOICES, "name": "free", "kind": "generation", "metric": "rouge_l"}

TYPED: dict[str, list[Row]] = {
    "notes": [
        Row(id="a", input={"text": "a fine day"}, target="glad"),
        Row(
            id="b/ü 🙂",
            input={
                "text": 'two\nlines "quoted" \\ tab\t',
                "n": 3,
                "share": 3.0,
                "list": [1, [2.5, None], "x"],
                "no": None,
            },
            target="sad",
            metadata={"z": 1, "a": {"deep": [True, {"x": None}]}, "one": 1.0, "big": 2**70, "tiny": 5e-324, "": ""},
        ),
        Row(id="c", input={"text": ""}, target="sad", metadata={"tags": [], "none": None, "text": "1"}),
    ],
    "choices": [Row(id="a", input={"question": "Where?"}, target="here", choices=("here", "there, or not"))],
    "free": [
        Row(id="a", input={"question": "Why?"}, target="", references=("because", "so")),
        Row(id="b", input={"question": 7}, target="seven"),
    ],
}


@pytest.fixture
def typed(tmp_path: Path) -> Path:
    """An index of three kinds of tasks; half of their rows were written since the build, and some deleted."""
    base = {
        task: [Row(id="old", input=rows[0].input, target=rows[0].target, choices=rows[0].choices)]
        for task, rows in TYPED.items()
    }
    for keys in (NOTES, CHOICES, FREE):
        task = str(keys["name"])
        rows = [*base[task], *TYPED[task][::2]]
        write_task(tmp_path / "tasks", keys, train=[row.to_json() for row in rows])
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "typed"), HashEncoder())
    with Retriever.open(tmp_path / "typed", encoder=HashEncoder()) as retriever:
        for task, rows in TYPED.items():
            retriever.put(task, [Row(id="a", input=rows[0].input, target=rows[0].target, choices=rows[0].choices)])
            retriever.put(task, rows)
            retriever.delete(task, "old")
    return tmp_path / "typed"


MANY = b"".join(b'{"task": "notes", "id": "m%d", "input": {"text": "y"}, "target": "sad"}\n' % n for n in range(1001))
"""More rows than are written at once."""


def all_rows(index: Path) -> dict[str, list[Row]]:
    with open_rows(index) as pool:
        view = pool.view()
        return {task: view.page(task, None, None, 1000) for task in view.sizes}


def exact(rows: dict[str, list[Row]]) -> str:
    """Rows as text, so that 1, 1.0 and True differ, and so does the order of keys."""
    return repr({task: [row.to_json() for row in rows[task]] for task in sorted(rows)})


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_round_trip_loses_nothing(suffix: str, typed: Path, tmp_path: Path) -> None:
    assert exact(all_rows(typed)) == exact(TYPED)
    out, again = tmp_path / f"rows.{suffix}", tmp_path / f"again.{suffix}"
    done = export_rows(typed, out)
    assert (done.sizes, done.position) == ({task: len(rows) for task, rows in TYPED.items()}, 9)
    empty = Path(shutil.copytree(typed, tmp_path / "empty"))
    with Retriever.open(empty, encoder=HashEncoder()) as retriever:
        for task in TYPED:
            retriever.delete(task, filter="$id exists")
    imported = import_rows(empty, out, encoder=HashEncoder())
    assert (imported.created, imported.replaced, imported.unchanged, imported.vectors) == (6, 0, 0, False)
    assert exact(all_rows(empty)) == exact(TYPED)
    export_rows(empty, again)
    if suffix == "jsonl":
        assert again.read_bytes() == out.read_bytes()
    # Rows that are there are left alone: nothing is written.
    position = export_rows(empty, tmp_path / f"third.{suffix}").position
    repeated = import_rows(empty, again, encoder=HashEncoder())
    assert (repeated.created, repeated.replaced, repeated.unchanged) == (0, 0, 6)
    with open_rows(empty) as pool:
        assert pool.view().position == position


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_one_task_is_exported_as_a_split(suffix: str, typed: Path, tmp_path: Path) -> None:
    task = open_version(typed).manifest.partitions["notes"].task
    export_rows(typed, tmp_path / f"train.{suffix}", "notes")
    assert exact({"notes": list(read_rows(task, tmp_path / f"train.{suffix}"))}) == exact({"notes": TYPED["notes"]})
    assert import_rows(typed, tmp_path / f"train.{suffix}", "notes").unchanged == 3
    with pytest.raises(DataError, match=r":1: field 'task': names no task"):
        import_rows(typed, tmp_path / f"train.{suffix}")
    with pytest.raises(UnknownTaskError, match="unknown task 'nodes'"):
        export_rows(typed, tmp_path / f"x.{suffix}", "nodes")
    assert not (tmp_path / f"x.{suffix}").exists()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_those_of_a_build(dtype: Any, collection: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    build(BuildConfig(tasks=collection, out=index, dtype=dtype), HashEncoder())
    with Retriever.open(index, encoder=HashEncoder()) as retriever:
        for id in ("n03", "new"):
            retriever.put("notes", Row(id=id, input={"text": f"a {id} story"}, target="sad"))
        retriever.delete("notes", "n01")
    for suffix in ("jsonl", "parquet"):
        export_rows(index, tmp_path / f"rows.{suffix}", vectors=True)
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert str(table.schema.field("vector").type.value_type) == {"float32": "float", "float16": "halffloat"}[dtype]
    assert table.schema.metadata[b"udr.encoder"].decode() == HashEncoder().fingerprint
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    compact(index, HashEncoder())
    version = open_version(index)
    for task in version.manifest.partitions:
        stored = version.vectors(task)
        own = [line for line in lines if line["task"] == task]
        assert np.array_equal(np.array([line["vector"] for line in own], dtype), stored)
        columns = table.filter(pyarrow.compute.field("task") == task).to_pydict()
        assert np.array_equal(np.array(columns["vector"], dtype), stored)
        assert columns["id"] == [line["id"] for line in own]
    assert import_rows(index, tmp_path / "rows.parquet").vectors


def test_vectors_of_another_encoder_are_refused(copy: Path, tmp_path: Path, collection: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", Row(id="new", input={"text": "a story"}, target="sad"))
    other = HashEncoder(salt="x")
    build(BuildConfig(tasks=collection, out=copy), other)
    with pytest.raises(ConfigError, match=r"1 texts of rows have no vector, since .*compact the index first"):
        export_rows(copy, tmp_path / "rows.jsonl", vectors=True)
    assert export_rows(copy, tmp_path / "rows.jsonl").sizes["notes"] == 21
    compact(copy, other)
    export_rows(copy, tmp_path / "more.jsonl", vectors=True)


def test_an_import_replaces_only_if_asked(copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"task": "notes", "id": "n00", "input": {"text": "another"}, "target": "sad"},
        {"task": "reviews", "id": "new", "input": {"thing": "x", "text": "y"}, "target": "sad"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = exact(all_rows(copy))
    with pytest.raises(
        ConfigError, match="1 of its rows have ids of other rows, such as 'n00' of 'notes', and nothing"
    ):
        import_rows(copy, path, encoder=HashEncoder())
    assert exact(all_rows(copy)) == before
    done = import_rows(copy, path, replace=True, encoder=HashEncoder())
    assert (done.created, done.replaced) == (1, 1)
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        assert retriever.demonstration("notes", "n00").input == {"text": "another"}
        retriever.delete("notes", "n00")
        with pytest.raises(NotWriterError, match=r"another process writes.*; 0 rows were imported before"):
            import_rows(copy, path, encoder=HashEncoder())


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("rows.jsonl", b'{"task": "notes", "id": "x", "input": {"text": "y"}\n', DataError, r"rows.jsonl:1: not JSON"),
        ("rows.jsonl", b'{"task": "notes", "id": "x", "input": {}, "target": "sad"}\n', DataError, r":1: field 'input"),
        (
            "rows.jsonl",
            MANY + b'{"task": "notes", "id": "%s", "input": {"text": "y"}, "target": "sad"}\n' % (b"n" * 513),
            DataError,
            r":1002: field 'id': must have at most 512 characters, found 513",
        ),
        ("rows.jsonl", b'{"task": 7, "id": "x", "input": {}, "target": "sad"}\n', UnknownTaskError, "unknown task '7'"),
        ("rows.jsonl", b'{"id": "x", "input": {}, "target": "sad", "score": 1}\n', DataError, "names no task"),
        ("rows.jsonl", b"version https://git-lfs.github.com/spec/v1\n", DataError, "Git LFS"),
        ("rows.jsonl", b"\xff\xfe\n", DataError, "not UTF-8"),
        ("rows.parquet", b"PAR1 but not really", DataError, "not a readable Parquet file"),
        ("rows.csv", b"id,target\n", ConfigError, "must be a .jsonl or .parquet file"),
    ],
)
def test_a_damaged_import_is_refused(
    name: str, content: bytes, error: type[Exception], message: str, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        import_rows(copy, tmp_path / name, encoder=HashEncoder())
    assert not (copy / "live").exists()


def test_an_export_overwrites_nothing(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("mine")
    with pytest.raises(ConfigError, match=r"rows.jsonl exists; name another file"):
        export_rows(copy, out)
    with pytest.raises(ConfigError, match=r"rows.jsonl exists; name another file"):
        backup(copy, out)
    assert out.read_text() == "mine"
    with pytest.raises(ConfigError, match=r"must be a .jsonl or .parquet file"):
        export_rows(copy, tmp_path / "rows.csv")
    with pytest.raises(ArtifactError, match="no index here"):
        backup(tmp_path / "none", tmp_path / "x")
    assert not (tmp_path / "none").exists()


def test_a_backup_is_restored_as_it_was(copy: Path, tmp_path: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", Row(id="new", input={"text": "a story"}, target="sad"))
        made = backup(copy, tmp_path / "one")
        retriever.put("notes", Row(id="later", input={"text": "a story"}, target="sad"))
    (tmp_path / "again.partial").mkdir()
    restored = restore(tmp_path / "one", tmp_path / "again")
    assert restored == made and made.position == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "again.partial", "index", "one"]
    ids = [row.id for row in all_rows(tmp_path / "again")["notes"]]
    assert "new" in ids and "later" not in ids
    assert tree(copy / "versions") == tree(tmp_path / "again" / "versions")
    backup(tmp_path / "again", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with pytest.raises(ConfigError, match="again exists; name a folder that does not"):
        restore(tmp_path / "one", tmp_path / "again")
    # Writes go on where the backup ends.
    with Retriever.open(tmp_path / "again", encoder=HashEncoder()) as retriever:
        assert retriever.delete("notes", "new").position == 2


def test_backups_while_writes_go_on_have_all_that_was_acknowledged(copy: Path, tmp_path: Path) -> None:
    done, stop = 0, threading.Event()
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:

        def write() -> None:
            nonlocal done
            while not stop.is_set():
                retriever.put("notes", Row(id=f"w{done:05}", input={"text": f"number {done}"}, target="sad"))
                done += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            sizes = []
            for number in range(6):
                if number == 3:
                    compact(copy, HashEncoder())
                until(lambda: done >= 4 * number)  # noqa: B023
                acknowledged = done
                made = backup(copy, tmp_path / f"{number}")
                sizes.append((acknowledged, made.position))
        finally:
            stop.set()
            writer.join()
    for number, (acknowledged, position) in enumerate(sizes):
        assert 4 * number <= acknowledged <= position
        restore(tmp_path / f"{number}", tmp_path / f"index{number}")
        written = [row.id for row in all_rows(tmp_path / f"index{number}")["notes"] if row.id.startswith("w")]
        assert written == [f"w{n:05}" for n in range(position)]


def test_a_damaged_backup_is_refused(copy: Path, tmp_path: Path) -> None:
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        retriever.put("notes", Row(id="new", input={"text": "a story"}, target="sad"))
    backup(copy, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    with tarfile.open(tmp_path / "whole") as archive:
        members = archive.getmembers()
    places = [member.offset_data + member.size // 2 for member in members if member.size]
    damaged = {place: content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] for place in places}
    # Truncated in the middle of each file, and between two.
    cut = {-place: content[:place] for place in [*places, members[3].offset]}
    for altered in [*damaged.values(), *cut.values()]:
        (tmp_path / "damaged").write_bytes(altered)
        with pytest.raises(ArtifactError, match=r"damaged: .*(damaged|no backup)"):
            restore(tmp_path / "damaged", tmp_path / "again")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "index", "whole"]


def _archive(path: Path, members: dict[str, bytes]) -> None:
    import io

    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../out", "its list of files is altered"),
        ("/etc/out", "its list of files is altered"),
        ("versions/0123456789abcdef/../../../out", "its list of files is altered"),
        ("versions/0123456789abcdef", "its list of files is altered"),
        ("live/.lock", "its list of files is altered"),
        ("versions/0123456789abcdef/manifest.json", "is damaged"),
    ],
)
def test_a_backup_of_a_stranger_writes_nothing_elsewhere(name: str, message: str, tmp_path: Path) -> None:
    import hashlib

    files = {name: [2, hashlib.sha256(b"{}").hexdigest()]}
    keys = {"format": 1, "version": "0123456789abcdef", "position": 0, "files": files}
    _archive(tmp_path / "b", {"udr-backup.json": json.dumps(keys).encode(), name: b"{}"})
    with pytest.raises(VerificationError, match=message):
        restore(tmp_path / "b", tmp_path / "again")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_other_files_are_no_backups(tmp_path: Path) -> None:
    path = tmp_path / "b"
    for content in (b"", b"text", b"\x1f\x8b" + bytes(1000), bytes(2048)):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="is no backup of an index"):
            restore(path, tmp_path / "again")
    _archive(path, {"udr-backup.json": b'{"format": 2}'})
    with pytest.raises(ArtifactError, match="has format 2, but this udr reads format 1; install"):
        restore(path, tmp_path / "again")
    _archive(path, {"udr-backup.json": b'{"format": 1, "files": {}, "version": "x", "position": 1}'})
    with pytest.raises(VerificationError, match="its list of files is altered"):
        restore(path, tmp_path / "again")
    with pytest.raises(FileNotFoundError):
        restore(tmp_path / "missing", tmp_path / "again")


def test_a_full_disk_leaves_nothing(copy: Path, tmp_path: Path) -> None:
    backup(copy, tmp_path / "whole")
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from udr.cli import main
sys.exit(main(sys.argv[1:]))
"""
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments in (
        ["export", str(copy), "--out", str(tmp_path / "rows.jsonl")],
        ["backup", str(copy), str(tmp_path / "second")],
        ["restore", str(tmp_path / "whole"), str(tmp_path / "again")],
    ):
        command = [sys.executable, "-c", code, "index", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode in (1, 2), ended.stderr
        last = ended.stderr.splitlines()[-1]
        assert last.startswith(f"udr: error: {tmp_path}") and "File too large; raise the limit" in last
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_backup_waits_for_no_build_for_ever(copy: Path, tmp_path: Path) -> None:
    with locked(copy), pytest.raises(ArtifactError, match="is in use by"):
        backup(copy, tmp_path / "b", wait_seconds=0)


def test_commands(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: object) -> str:
        assert main(["index", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    version, out = open_version(copy).manifest.version, tmp_path / "rows.jsonl"
    assert run("export", copy, "--out", out) == f"{out}: 62 rows of 3 tasks, of version {version} with 0 writes\n"
    exported = json.loads(run("export", copy, "notes", "--out", tmp_path / "notes.parquet", "--vectors", "--json"))
    assert exported["tasks"] == {"notes": 20} and exported["encoder"] == HashEncoder().fingerprint
    assert run("import", copy, out) == "0 created, 0 replaced, 62 unchanged\n"
    assert main(["index", "import", str(copy), str(tmp_path / "notes.parquet"), "notes", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"created": 0, "replaced": 0, "unchanged": 20}
    assert "vectors in the file are not read" in printed.err
    assert run("backup", copy, tmp_path / "b").startswith(f"{tmp_path / 'b'}: version {version} with 0 writes; ")
    restored = json.loads(run("restore", tmp_path / "b", tmp_path / "again", "--json"))
    assert restored["version"] == version
    assert run("verify", tmp_path / "again", "--sample", "0") == f"{tmp_path / 'again'}: intact\n"
