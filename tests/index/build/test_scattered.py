"""Building by workers: the vectors of one process, whatever dies; texts that fail are named, and the rest is kept."""

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import save_encoder
from tests.udr.models.runner.fake_pool import FakePool
from udr.cli import main
from udr.errors import PartialError
from udr.models import ScatteredEncoder, Scheduler, SentenceEncoder
from udr.models.runner import LoadEncoder
from udr.store import open_version
from udr_index.build import BuildConfig, build


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    return SentenceEncoder.load(str(save_encoder(tmp_path_factory.mktemp("models") / "encoder")), "cpu")


class First(set[str]):
    """The first key that is asked for."""

    _asked = False

    def __contains__(self, key: object) -> bool:
        if not self._asked:
            self._asked = True
            self.add(str(key))
        return super().__contains__(key)


def by_workers(encoder: SentenceEncoder, fatal: set[str], *, once: bool = False) -> ScatteredEncoder:
    """The encoder with two workers, which die of shards with these keys; with ``once``, of each once."""

    def dies(number: int, key: str) -> bool:
        if key not in fatal:
            return False
        if once:
            fatal.remove(key)
        return True

    load = LoadEncoder(encoder.name, "cpu")
    identity, _ = load()
    return ScatteredEncoder(encoder, Scheduler(lambda: FakePool(2, load, dies), identity))


def config(collection: Path, out: Path) -> BuildConfig:
    return BuildConfig(
        tasks=collection, out=out, bm25=False, export=False, label_head=False, batch_size=2, shard_rows=4
    )


def files(index: Path) -> dict[str, bytes]:
    version = open_version(index).path
    names = [path for path in sorted(version.rglob("*")) if path.is_file() and path.suffix in (".npy", ".json")]
    return {path.relative_to(version).as_posix(): path.read_bytes() for path in names}


def test_an_index_by_workers_equals_that_of_one_process(
    collection: Path, encoder: SentenceEncoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = build(config(collection, tmp_path / "here"), encoder)
    there = build(config(collection, tmp_path / "there"), by_workers(encoder, First(), once=True))
    assert there.version == here.version and there.encoded == here.encoded > 0
    assert "failed and is tried again: the worker on node-0 died" in caplog.text
    assert files(tmp_path / "there") == files(tmp_path / "here")


def test_texts_that_fail_each_time_are_named_and_a_later_build_encodes_only_their_shard(
    collection: Path, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    whole = build(config(collection, tmp_path / "here"), encoder)

    out = tmp_path / "there"
    with pytest.raises(
        PartialError, match=r"2 texts failed on every try.*after row 0: '.*run the command again to go on"
    ):
        build(config(collection, out), by_workers(encoder, First()))
    rebuilt = build(config(collection, out), by_workers(encoder, set()))
    assert rebuilt.version == whole.version and 0 < rebuilt.encoded <= 4 < whole.encoded
    assert files(out) == files(tmp_path / "here")


def test_vectors_of_a_worker_are_those_of_this_process(encoder: SentenceEncoder) -> None:
    identity, encode = LoadEncoder(encoder.name, "cpu")()
    texts = ("one text", "another, longer text")
    assert encoder.fingerprint in identity
    assert np.array_equal(encode(("demonstration", texts)), encoder.encode_demonstrations(texts))
    assert np.array_equal(encode(("query", texts)), encoder.encode_queries(texts))


def test_gpus_of_workers_need_the_device(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["index", "build", str(collection), "--out", str(tmp_path / "out"), "--runner", "ray"]
    assert main([*command, "--gpus-per-worker", "0.5"]) == 2
    assert "--gpus-per-worker 0.5 needs --device cuda" in capsys.readouterr().err
