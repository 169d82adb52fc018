"""An index that somebody else made is data: it names no file outside, runs no code, and takes no memory by a number."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import HashEncoder, write_collection
from tests.tiny_models import save_encoder
from tests.udr.store.test_version import rewrite_manifest, version
from udr.cli import main
from udr.errors import ArtifactError, ModelError, UdrError, VerificationError
from udr.models import SentenceEncoder
from udr.retrieval import Retriever
from udr.store import (
    SCHEMA,
    DemonstrationTable,
    bounded,
    encoder_name,
    open_read_only,
    open_version,
    read_current,
    read_settings,
    seal,
    verify,
    write_settings,
)
from udr.store.usage import UsageFile
from udr.types import Json, Row
from udr_index.build import BuildConfig, Progress, build
from udr_index.versions import prune

STAMP: dict[str, Json] = {"size": 3, "sha256": "0" * 64}


def keys_of(root: Path) -> dict[str, object]:
    keys: dict[str, object] = json.loads((version(root) / "manifest.json").read_bytes())
    return keys


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "model//x", "./x", "", "a\\b", "a\0b", "a\nb", "."]
)
def test_a_manifest_names_only_files_inside_the_version(copy: Path, path: str) -> None:
    rewrite_manifest(copy, files={path: STAMP})
    with pytest.raises(
        ArtifactError, match=r"manifest.json: .* a file's path, which must be relative, inside"
    ) as error:
        open_version(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dtype", "object", "the type of vectors cannot be 'object'"),
        ("wording", 3, "the wording cannot be 3"),
        ("families", {"../x": "text"}, r"a family's name cannot be '../x'"),
        (
            "encoder",
            {"name": "e", "fingerprint": "f", "dimension": 2**40, "metric": "cosine"},
            "dimension cannot be 10995",
        ),
        (
            "encoder",
            {"name": "a\nb", "fingerprint": "f", "dimension": 3, "metric": "cosine"},
            "encoder's name cannot be",
        ),
        ("encoder", {"name": "e", "fingerprint": "f", "dimension": 3, "metric": "other"}, "metric cannot be 'other'"),
        ("files", {"a": {"size": -1, "sha256": "0" * 64}}, "the size of 'a' cannot be -1"),
        ("files", {"a": {"size": 1, "sha256": "x"}}, "the sha256 of 'a' cannot be 'x'"),
    ],
)
def test_values_of_a_manifest_have_bounds(copy: Path, key: str, value: object, message: str) -> None:
    rewrite_manifest(copy, **{key: value})  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match=message):
        open_version(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 2**31}, "number of rows of task 'notes' cannot be"),
        ({"count": True}, "number of rows of task 'notes' cannot be True"),
        ({"count": 10**6}, r"says 1000000 vectors of 48 numbers in float32, but .*vectors.npy has 3968 bytes"),
        ({"kind": "x y"}, "the kind of task 'notes' cannot be"),
        ({"lexical": ["x"]}, "unknown rule"),
    ],
)
def test_numbers_of_a_partition_fit_its_files(copy: Path, change: dict[str, object], message: str) -> None:
    tasks: dict[str, dict[str, object]] = keys_of(copy)["tasks"]  # type: ignore[assignment]
    tasks["notes"] |= change
    rewrite_manifest(copy, tasks=tasks)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match=message):
        open_version(copy)


def test_a_partition_has_the_name_of_its_task(copy: Path) -> None:
    tasks: dict[str, object] = keys_of(copy)["tasks"]  # type: ignore[assignment]
    tasks["../../x"] = tasks.pop("notes")
    rewrite_manifest(copy, tasks=tasks)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match=r"the name of task 'notes' cannot be '../../x'"):
        open_version(copy)


@pytest.mark.parametrize("name", ["CURRENT", "V", "V/manifest.json", "V/demonstrations.sqlite", "V/partitions/notes"])
def test_a_link_out_of_the_index_is_refused(copy: Path, tmp_path: Path, name: str) -> None:
    path = copy / name.replace("V", f"versions/{read_current(copy)}")
    outside = tmp_path / "outside"
    shutil.move(path, outside)
    path.symlink_to(outside)
    with pytest.raises(VerificationError, match=rf"{path.name}.*: is a link out of the index, to {outside}.*cp -rL"):
        open_version(copy)
    assert any("is a link out of the index" in str(finding) for finding in verify(copy))


def put(root: Path) -> None:
    with Retriever.open(root, encoder=HashEncoder()) as retriever:
        retriever.put("notes", [Row(id="new", input={"text": "a new day"}, target="glad")])


def set_search(root: Path) -> None:
    opened = open_version(root)
    write_settings(opened.path, opened.manifest, {})


def rebuild(root: Path) -> None:
    build(BuildConfig(tasks=write_collection(root.parent / "tasks"), out=root), HashEncoder())


OUT, LINK = "is a link out of the index, to", "is a link, through which udr does not write; run: rm "


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("V/search.json", set_search, OUT),
        ("V/.search.json.tmp", set_search, LINK),
        (".lock", lambda root: prune(root, keep=1), LINK),
        (".lock", rebuild, LINK),
        ("CURRENT", rebuild, OUT),
        ("live/log", put, OUT),
        ("live/.lock", put, LINK),
        ("live/.commit", put, LINK),
        ("live/usage.sqlite", lambda root: UsageFile(root / "live" / "usage.sqlite").close(), OUT),
    ],
)
def test_nothing_is_written_through_a_link(
    copy: Path, tmp_path: Path, name: str, write: Callable[[Path], object], message: str, exists: bool
) -> None:
    victim, path = tmp_path / "outside", copy / name.replace("V", f"versions/{read_current(copy)}")
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(victim)
    if exists:
        victim.write_bytes(b"")
    with pytest.raises((UdrError, OSError), match=message):
        write(copy)
    assert victim.read_bytes() == b"" if exists else not victim.exists()


@pytest.mark.parametrize(("name", "write"), [("live", put), ("versions", rebuild)])
def test_nothing_is_written_to_a_folder_elsewhere(
    copy: Path, tmp_path: Path, name: str, write: Callable[[Path], object]
) -> None:
    (tmp_path / "outside").mkdir()
    shutil.rmtree(copy / name, ignore_errors=True)
    (copy / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UdrError, match=OUT):
        write(copy)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_build_that_somebody_else_began_writes_nothing_elsewhere(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == "encoded":
            raise KeyboardInterrupt

    config = BuildConfig(tasks=write_collection(tmp_path / "tasks"), out=tmp_path / "index")
    with pytest.raises(KeyboardInterrupt):
        build(config, HashEncoder(), interrupt)
    (folder,) = config.out.glob(".building-*")
    (folder / "made-for").unlink()
    (folder / "made-for").symlink_to(tmp_path / "outside")
    with pytest.raises(VerificationError, match=OUT):
        build(config, HashEncoder())
    assert not (tmp_path / "outside").exists()


def test_links_inside_the_index_and_to_it_are_followed(copy: Path, tmp_path: Path) -> None:
    rows = version(copy) / "demonstrations.sqlite"
    rows.rename(copy / ".shared.tmp")
    rows.symlink_to("../../.shared.tmp")
    (tmp_path / "link").symlink_to(copy)
    with Retriever.open(tmp_path / "link", encoder=HashEncoder()) as retriever:
        assert retriever.retrieve("notes", "a dull day", 1)


@pytest.mark.parametrize("name", ["CURRENT", "V/manifest.json", "V/demonstrations.sqlite"])
def test_a_pipe_is_no_file_and_is_not_waited_for(copy: Path, name: str) -> None:
    path = copy / name.replace("V", f"versions/{read_current(copy)}")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match=f"{path.name}: (cannot be read|is missing)"):
        open_version(copy)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE VIEW v AS SELECT 1", "view 'v' is not ours"),
        ("CREATE TRIGGER t AFTER INSERT ON tokens BEGIN SELECT 1; END", "trigger 't' is not ours"),
        ("CREATE VIRTUAL TABLE f USING fts5(a)", "table 'f' is not ours"),
        ("DROP INDEX by_id", "index 'by_id' is missing or altered"),
        ("DROP TABLE tokens; CREATE TABLE tokens (a, b AS (abs(a)))", "table 'tokens' is missing or altered"),
        ("ALTER TABLE demonstrations ADD COLUMN other", "table 'demonstrations' is missing or altered"),
    ],
)
def test_rows_have_exactly_our_tables(tmp_path: Path, statement: str, message: str) -> None:
    with closing(sqlite3.connect(tmp_path / "d")) as connection:
        connection.executescript(f"{SCHEMA} {statement};")
    with pytest.raises(ArtifactError, match=f"d: cannot be read .*{message}; it must have the tables demonstr"):
        DemonstrationTable(tmp_path / "d")


def test_a_schema_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "d")) as connection:
        connection.executescript(f"{SCHEMA} CREATE TABLE othername (a);")
    data = (tmp_path / "d").read_bytes()
    (tmp_path / "d").write_bytes(data.replace(b"othername (a)", b'othername "\xe2('))
    with pytest.raises(ArtifactError, match=r"d: cannot be read \(it holds text that is not UTF-8\)"):
        DemonstrationTable(tmp_path / "d")


def test_a_query_has_a_bound_and_other_files_cannot_be_attached(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "d")) as connection:
        connection.executescript(SCHEMA)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
    with closing(open_read_only(tmp_path / "d", SCHEMA)) as connection:
        with pytest.raises(sqlite3.OperationalError, match=r"a query took more than 0.05 s"), bounded(connection, 0.05):
            connection.execute(endless)
        with pytest.raises(sqlite3.OperationalError, match="too many attached databases"):
            connection.execute("ATTACH ':memory:' AS other")
        assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM demonstrations").fetchone() == (0,)


NO_INPUT = '{"id": "a", "input": {"q": {}}, "target": "a"}'


@pytest.mark.parametrize("row", ["[]", "{", "[" * 10_000, '{"id": 1}', NO_INPUT, 7])
def test_a_row_that_is_not_ours_is_an_error(tmp_path: Path, row: object) -> None:
    with closing(sqlite3.connect(tmp_path / "d")) as connection, connection:
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO demonstrations VALUES ('a', 0, 'a', x'00', x'00', ?)", (row,))
    with closing(DemonstrationTable(tmp_path / "d")) as table:
        with pytest.raises(ArtifactError, match="d: a row is not as udr writes it"):
            table.rows("a", [0])
        if row != NO_INPUT:
            with pytest.raises(ArtifactError, match=r"d: (a target is not a text|cannot be read \(malformed JSON\))"):
                table.targets("a")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999, 48), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 48), 'x': 9**9**9}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (20, 48), }",
        "(" * 3000,
    ],
)
def test_a_header_of_an_array_is_not_evaluated(copy: Path, header: str) -> None:
    path = version(copy) / "partitions/notes/vectors.npy"
    data = path.read_bytes()
    head = header.encode().ljust(117)[:117] + b"\n"
    path.write_bytes(data[:10] + head + data[128:])
    with pytest.raises(ArtifactError, match=r"vectors.npy: cannot be read \(it"):
        open_version(copy).vectors("notes")


@pytest.mark.parametrize(
    "change", [{"parameters": "efSearch=99999999999"}, {"parameters": "x\n"}, {"oversample": 10**9}]
)
def test_search_settings_have_bounds(collection: Path, tmp_path: Path, change: dict[str, object]) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path / "i", names=("questions",), kind="SQ8"), HashEncoder())
    opened = open_version(tmp_path / "i")
    path = opened.path / "search.json"
    keys = json.loads(path.read_bytes())
    del keys["sha256"]
    keys["tasks"]["questions"] |= change
    path.write_bytes(seal(keys))
    with pytest.raises(VerificationError, match=r"search.json: is altered: it lacks valid settings"):
        read_settings(opened.path, opened.manifest)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of models that are loaded; nothing is."""
    names: list[str] = []

    def load(name: str, device: str | None = None) -> HashEncoder:
        names.append(name)
        return HashEncoder()

    monkeypatch.setattr(SentenceEncoder, "load", load)
    return names


def renamed(root: Path, **changes: object) -> None:
    encoder: dict[str, object] = keys_of(root)["encoder"]  # type: ignore[assignment]
    rewrite_manifest(root, encoder=encoder | changes)  # type: ignore[arg-type]


def test_a_hub_name_needs_to_be_allowed_and_its_fingerprint_comes_first(
    copy: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    renamed(copy, name="someone/model")
    with pytest.raises(
        ArtifactError, match=r"on the Hugging Face hub, 'someone/model'; .*--allow-hub .*allow_hub=True"
    ):
        Retriever.open(copy)
    # The caller's own encoder needs no permission.
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        assert retriever.tokenizer == "fake-hash"

    located: list[str] = []

    def locate(name: str) -> Path:
        located.append(name)
        return tmp_path

    monkeypatch.setattr("udr.store.own_encoder.locate", locate)
    with pytest.raises(ArtifactError, match=r"'someone/model' has fingerprint [0-9a-f]{16}; use the encoder that"):
        Retriever.open(copy, allow_hub=True)
    assert (located, loads) == (["someone/model"], [])
    monkeypatch.setattr("udr.store.own_encoder.fingerprint", lambda path: HashEncoder().fingerprint)
    with Retriever.open(copy, allow_hub=True):
        assert loads == ["someone/model"]


@pytest.mark.parametrize(
    "command", ["retrieve DIR hello --task notes", "index verify DIR", "index bench DIR", "prompt DIR hi"]
)
def test_commands_name_the_flag(copy: Path, command: str, loads: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    renamed(copy, name="someone/model")
    arguments = command.replace("DIR", str(copy)).split()
    assert main(arguments + (["--task", "notes", "--budget", "90"] if "prompt" in command else [])) == 1
    assert "if you trust the index and that model, pass --allow-hub" in capsys.readouterr().err
    assert loads == []


@pytest.mark.parametrize("name", ["/tmp/model", "../model", "a/b/c", "~/model", ".hidden"])
def test_a_path_outside_the_index_is_never_loaded(copy: Path, name: str) -> None:
    renamed(copy, name=name)
    with pytest.raises(ArtifactError, match=r"names its encoder by the path .*, outside the index"):
        encoder_name(open_version(copy), allow_hub=True)


def test_weights_in_an_index_are_no_pickle(real_index: Path, collection: Path, tmp_path: Path) -> None:
    index = Path(shutil.copytree(real_index, tmp_path / "index"))
    opened = open_version(index)
    assert encoder_name(opened) == str(opened.path / "model")
    # Beside safetensors, which are read in its place, a pickle does no harm.
    (opened.path / "model" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="has fingerprint"):
        encoder_name(opened)
    (opened.path / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pytorch_model.bin: holds weights as a pickle, .*model.safetensors"):
        encoder_name(opened)


def test_the_record_of_a_model_has_a_depth(real_index: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(open_version(real_index).path / "model", tmp_path / "model"))
    (model / "udr.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"udr.json must be a JSON object"):
        SentenceEncoder.load(str(model), "cpu")


def test_an_index_of_a_model_with_pickles_is_not_built(collection: Path, tmp_path: Path) -> None:
    model = save_encoder(tmp_path / "model")
    (model / "1_Dense").mkdir()
    (model / "1_Dense" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="holds weights as a pickle"):
        build(BuildConfig(tasks=collection, out=tmp_path / "out", model=str(model), device="cpu"))
    assert not (tmp_path / "out").exists()


def test_a_faiss_file_of_other_sizes_is_not_read(collection: Path, tmp_path: Path) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path / "i", names=("questions",), kind="SQ8"), HashEncoder())
    path = open_version(tmp_path / "i").path / "partitions/questions/index.faiss"
    data = bytearray(path.read_bytes())
    data[4:16] = np.array([48], "<i4").tobytes() + np.array([2**50], "<i8").tobytes()
    path.write_bytes(data)
    with pytest.raises(
        ArtifactError, match=f"index.faiss: has {2**50} vectors of 48 numbers, but its partition has 24"
    ):
        Retriever.open(tmp_path / "i", encoder=HashEncoder(), verify=False)


def write_words(folder: Path, words: object) -> None:
    (folder / "words.json").write_text(json.dumps(words))


def write_array(name: str, value: int, dtype: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        array = np.load(folder / f"{name}.npy")
        np.save(folder / f"{name}.npy", np.full(array.shape, value, dtype))

    return write


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_words(folder, "x"),
        lambda folder: write_words(folder, ["a", "a"]),
        lambda folder: (folder / "words.json").write_text("[" * 100_000),
        write_array("texts", 99, "<i4"),
        write_array("texts", -1, "<i4"),
        write_array("times", 0, "<i4"),
        write_array("starts", 2**60, "<i8"),
        write_array("starts", -1, "<i8"),
        write_array("lengths", -1, "<i4"),
        write_array("lengths", 0, "<i4"),
        write_array("lengths", 1, "<f8"),
    ],
)
def test_files_of_bm25_are_read_within_bounds(
    collection: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path / "i", names=("questions",), bm25=True), HashEncoder())
    change(open_version(tmp_path / "i").path / "partitions/questions/bm25")

    def ask() -> None:
        with Retriever.open(tmp_path / "i", encoder=HashEncoder(), verify=False) as retriever:
            retriever.retrieve("questions", "Where is the river?", 3, mode="bm25")

    with pytest.raises(UdrError, match=r"; run: udr index verify"):
        ask()
