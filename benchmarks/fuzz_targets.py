"""What is fuzzed: each reader of files, valid files for it, and how a changed one is read."""

import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import fuzz_mutations as mutations
import numpy as np

from udr.data import parse_family, parse_task, rows_and_errors
from udr.errors import DataError, ModelError
from udr.files import parse_toml
from udr.models import SentenceEncoder
from udr.retrieval import Retriever
from udr.search import BM25Search, Vectors
from udr.store import (
    MANIFEST,
    DemonstrationTable,
    IndexVersion,
    open_version,
    parse_manifest,
    read_current,
    read_settings,
    seal,
)
from udr_index.build import BuildConfig, build
from udr_service.auth import KeyEntry, KeyRing, Scope
from udr_training.config import load_config

TASK = """name = "questions"
family = "topic"
kind = "classification"
instruction = "Give the type of answer the question asks for."
input = "Question: {question}"
output = "Answer type: {target}"
metric = "accuracy"
labels = ["place", "person", "number"]
[verbalizer]
place = "a place"
"""


@dataclass(frozen=True)
class Target:
    """A reader: how a changed file is made for a generator, and how it is read; ``disk`` if it needs files."""

    make: Callable[[random.Random], bytes]
    read: Callable[[bytes], object]
    disk: bool = False


class Letters:
    """An encoder that counts letters."""

    name, fingerprint, dimension, metric = "letters", "0" * 16, 26, "cosine"

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, float32 [len(texts), 26]."""
        counts = np.array([[1 + text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], np.float32)
        lengths = np.linalg.norm(counts, axis=1, keepdims=True)
        return np.asarray(counts / lengths, np.float32) if len(texts) else np.zeros((0, 26), np.float32)

    encode_demonstrations = encode_queries


def targets(folder: Path, *, with_model: bool) -> Mapping[str, Target]:
    """Return all targets, by name; their files are in ``folder``."""
    version = _index(folder / "index", folder / "tasks")
    task = parse_task(parse_toml(TASK))
    rows = (folder / "tasks" / "topic" / "questions" / "train.jsonl").read_bytes()
    csv = b'id,question,target,metadata\n1,"Where, is ""it""?",place,"{""a"": [1]}"\r\n2,\xc3\xa9,person,\n'
    entries = (KeyEntry(name=name, scope=Scope.READ, sha256=digit * 64) for name, digit in (("a", "1"), ("b", "2")))
    keys = "\n".join(entry.to_toml() for entry in entries).encode()
    config = b"[train]\nepochs = 2\n[feedback]\ncontext = 1\n[candidates]\nbm25 = 3\n"

    def rows_of(name: str) -> Callable[[bytes], object]:
        return lambda data: list(rows_and_errors(task, _written(folder / name, data), distinct=True))

    found = {
        "manifest": Target(_of_json((version.path / MANIFEST).read_bytes()), parse_manifest),
        "task.toml": Target(_of_bytes(TASK.encode()), lambda data: parse_task(parse_toml(_text(data)))),
        "family.toml": Target(_of_bytes(b'instruction = "Give it."\n'), lambda data: parse_family(_toml(data), "f")),
        "keys.toml": Target(_of_bytes(keys), lambda data: KeyRing.parse(_text(data))),
        "config.toml": Target(_of_bytes(config), lambda data: load_config("cpu", {}, _written(folder / "c", data))),
        "rows.jsonl": Target(_of_bytes(rows[:600]), rows_of("rows.jsonl")),
        "rows.csv": Target(_of_bytes(csv), rows_of("rows.csv")),
        "current": Target(_of_bytes((folder / "index" / "CURRENT").read_bytes()), _current(folder), True),
        "search.json": Target(*_search(version), True),
        "demonstrations": Target(*_demonstrations(version, folder), True),
        "vectors.npy": Target(*_vectors(version), True),
        "bm25": Target(*_bm25(version), True),
        "index": Target(*_whole(folder / "index", version), True),
    }
    # Its libraries take seconds to import.
    return {**found, "model": Target(*_model(folder / "model"), True)} if with_model else found


def _index(out: Path, tasks: Path) -> IndexVersion:
    place = tasks / "topic" / "questions"
    place.mkdir(parents=True)
    (place / "task.toml").write_text(TASK)
    words = "river lake harbour island valley castle bridge forest".split()
    rows: list[dict[str, object]] = [
        {"id": f"q{number:03}", "input": {"question": f"Where is {word} {number}?"}, "target": "place"}
        for number, word in enumerate(words * 40)
    ]
    rows[0] |= {"metadata": {"a": [1, {"b": None}]}, "references": ["é"]}
    (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    build(BuildConfig(tasks=tasks, out=out, bm25=True, kind="IVF4,SQ8"), Letters())  # type: ignore[arg-type]
    return open_version(out)


def _of_bytes(*samples: bytes) -> Callable[[random.Random], bytes]:
    return lambda generator: mutations.of_bytes(generator, samples)


def _of_json(sample: bytes) -> Callable[[random.Random], bytes]:
    """Change the structure of a sealed file, and seal it again; a tenth of the changes is of its bytes."""

    def make(generator: random.Random) -> bytes:
        if generator.random() < 0.1:
            return mutations.of_bytes(generator, [sample])
        keys = mutations.of_json(generator, json.loads(sample))
        if not isinstance(keys, dict):
            return json.dumps(keys).encode()
        keys.pop("sha256", None)
        return seal(keys)

    return make


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # As ``read_text`` does.
        raise DataError(f"not UTF-8: byte {error.start}") from error


def _toml(data: bytes) -> dict[str, object]:
    return parse_toml(_text(data))


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _current(folder: Path) -> Callable[[bytes], object]:
    root = Path(shutil.copytree(folder / "index", folder / "current"))
    return lambda data: read_current(_written(root / "CURRENT", data).parent)


def _search(version: IndexVersion) -> tuple[Callable[[random.Random], bytes], Callable[[bytes], object]]:
    path = version.path / "search.json"
    content = path.read_bytes()

    def read(data: bytes) -> None:
        try:
            read_settings(_written(path, data).parent, version.manifest)
        finally:
            path.write_bytes(content)

    return _of_json(content), read


def _demonstrations(
    version: IndexVersion, folder: Path
) -> tuple[Callable[[random.Random], bytes], Callable[[bytes], object]]:
    path, original = folder / "d.sqlite", (version.path / "demonstrations.sqlite").read_bytes()

    def make(generator: random.Random) -> bytes:
        if generator.random() < 0.7:
            return mutations.of_bytes(generator, [original])
        # A database that is whole, but with other values or another schema.
        path.write_bytes(original)
        with closing(sqlite3.connect(path)) as connection, connection:
            column = generator.choice(("id", "copy_key", "text_key", "row", "position", "task"))
            value = generator.choice((None, 1, 2.5, "x", b"x", "[]", "{}", '{"id":1}', "[" * 5000, '{"target":[]}', -1))
            generator.choice(
                (
                    lambda: connection.execute(f"UPDATE OR IGNORE demonstrations SET {column} = ?", (value or 0,)),
                    lambda: connection.execute("CREATE VIEW v AS SELECT 1"),
                    lambda: connection.execute("CREATE TRIGGER t AFTER INSERT ON tokens BEGIN SELECT 1; END"),
                    lambda: connection.execute("DELETE FROM demonstrations WHERE position % 3 = 1"),
                    lambda: connection.executescript("DROP TABLE tokens; CREATE TABLE tokens (task, position, count)"),
                    lambda: connection.execute("UPDATE tokens SET count = ?", (value or 0,)),
                )
            )()
        return path.read_bytes()

    def read(data: bytes) -> None:
        with closing(DemonstrationTable(_written(path, data), "t")) as table:
            table.counted_rows("questions", [0, 5, 319])
            table.targets("questions")
            table.row("questions", "q000")
            table.token_counts("questions", table.text_keys("questions", 0, 9))
            table.copies("questions", [b"x"])
            list(table.every("questions"))

    return make, read


def _vectors(version: IndexVersion) -> tuple[Callable[[random.Random], bytes], Callable[[bytes], object]]:
    path = version.path / "partitions" / "questions" / "vectors.npy"
    content = path.read_bytes()

    def read(data: bytes) -> None:
        try:
            _written(path, data)
            np.isfinite(version.vectors("questions")).all()
        finally:
            path.write_bytes(content)

    # Mostly of the header.
    def make(generator: random.Random) -> bytes:
        if generator.random() < 0.1:
            return mutations.of_bytes(generator, [content])
        return mutations.of_bytes(generator, [content[:128]]) + content[128:]

    return make, read


def _bm25(version: IndexVersion) -> tuple[Callable[[random.Random], bytes], Callable[[bytes], object]]:
    folder = version.path / "partitions" / "questions" / "bm25"
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    def read(data: bytes) -> None:
        name, _, content = data.partition(b"\n")
        path = folder / name.decode()
        try:
            _written(path, content)
            BM25Search.load(folder, 320).search(["where is the castle 7", "x"], 5)
        finally:
            path.write_bytes(files[path.name])

    return _one_of(files), read


def _one_of(files: Mapping[str, bytes]) -> Callable[[random.Random], bytes]:
    """Change one file; the first line of the result is its name."""

    def make(generator: random.Random) -> bytes:
        name = generator.choice(list(files))
        content = files[name]
        if name.endswith(".npy") and generator.random() < 0.7:
            # The numbers, with a header that fits.
            numbers = bytearray(content)
            for _ in range(4):
                at = generator.randrange(128, len(content))
                numbers[at : at + 4] = generator.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
            return name.encode() + b"\n" + bytes(numbers[: len(content)])
        return name.encode() + b"\n" + mutations.of_bytes(generator, [content])

    return make


def _model(folder: Path) -> tuple[Callable[[random.Random], bytes], Callable[[bytes], object]]:
    folder.mkdir()
    files = {
        "udr.json": b'{"encoder_wording": "4495a71b96bcc406"}',
        "modules.json": b'[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Pooling"}]',
        "config.json": b'{"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}',
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with suppress(ModelError):
        # Imports the libraries, which takes seconds.
        SentenceEncoder.load(str(folder), "cpu")

    def read(data: bytes) -> None:
        name, _, content = data.partition(b"\n")
        path = folder / name.decode()
        try:
            _written(path, content)
            SentenceEncoder.load(str(folder), "cpu")
        finally:
            path.write_bytes(files[path.name])

    return _one_of(files), read


def _whole(root: Path, version: IndexVersion) -> tuple[Callable[[random.Random], bytes], Callable[[bytes], object]]:
    """A stranger's index: a changed file, whose size and checksum the manifest has."""
    paths = [path for path in version.manifest.files if not path.endswith("index.faiss")]
    files = {path: (version.path / path).read_bytes() for path in paths}
    manifest = (version.path / MANIFEST).read_bytes()
    encoder = Letters()

    def read(data: bytes) -> None:
        name, _, content = data.partition(b"\n")
        path = version.path / name.decode()
        keys = json.loads(manifest)
        del keys["sha256"]
        keys["files"][name.decode()] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        try:
            _written(path, content)
            (version.path / MANIFEST).write_bytes(seal(keys))
            with Retriever.open(root, encoder=encoder) as retriever:  # type: ignore[arg-type]
                for mode in ("dense", "bm25", "hybrid"):
                    retriever.retrieve("questions", "Where is the castle 7?", 5, mode=mode, distinct=0.99)
                retriever.retrieve(scope="all", input="Where?", k=5, balance=True)
        finally:
            path.write_bytes(files[name.decode()])
            (version.path / MANIFEST).write_bytes(manifest)

    return _one_of(files), read
