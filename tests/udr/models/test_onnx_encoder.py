"""ONNX Runtime against torch: the same numbers, exported once, and refused by name where they are not."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from tests.tiny_models import save_encoder
from tests.udr.models.tiny_encoders import WIDTH, save_architecture, save_towers
from udr.errors import ModelError
from udr.models import (
    DEFAULT_ENCODER,
    PROBES,
    VERSION,
    Encoder,
    OnnxEncoder,
    SentenceEncoder,
    agreement,
    cache_folder,
    load_encoder,
    onnx_encoder,
)

TEXTS = ["Where?", "A longer text, so that there is something to pad.", "x" * 1000, "Où? 日本", "Where?"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this module's exports are kept."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UDR_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def in_torch(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    """A model of two towers, with all that a model can have."""
    return SentenceEncoder.load(str(save_towers(tmp_path_factory.mktemp("models") / "towers")), device="cpu")


@pytest.fixture(scope="module")
def in_onnx(in_torch: SentenceEncoder, cache: Path) -> OnnxEncoder:
    return OnnxEncoder.of(in_torch, 1)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """For each run of a session: the thread that called it, and how many threads the session has."""
    seen: list[tuple[str, int]] = []
    run = onnxruntime.InferenceSession.run

    def recorded(session: onnxruntime.InferenceSession, *arguments: Any) -> Any:
        seen.append((threading.current_thread().name, session.get_session_options().intra_op_num_threads))
        return run(session, *arguments)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", recorded)
    return seen


def own(encoder: SentenceEncoder, texts: list[str]) -> np.ndarray[Any, Any]:
    """Return what Sentence-Transformers itself makes of queries."""
    unit = encoder.metric == "cosine"
    vectors = encoder.model.encode_query(texts, normalize_embeddings=unit, show_progress_bar=False)
    return np.asarray(vectors)


def never(*_arguments: object, **_options: object) -> None:
    raise AssertionError("exported again")


def test_queries_get_the_numbers_of_torch(in_torch: SentenceEncoder, in_onnx: OnnxEncoder) -> None:
    encoder: Encoder = in_onnx

    vectors = encoder.encode_queries(TEXTS)

    assert vectors.dtype == np.float32 and vectors.shape == (5, WIDTH)
    np.testing.assert_allclose(vectors, own(in_torch, TEXTS), atol=1e-5)
    np.testing.assert_allclose(vectors, np.vstack([encoder.encode_queries([text]) for text in TEXTS]), atol=1e-5)
    assert encoder.encode_queries([]).shape == (0, WIDTH)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_more_texts_than_threads_are_shared_among_them_and_come_back_in_their_order(
    in_torch: SentenceEncoder, cache: Path, threads: int, runs: list[tuple[str, int]]
) -> None:
    encoder = OnnxEncoder.of(in_torch, threads)
    runs.clear()
    texts = [*PROBES, *TEXTS, *PROBES]

    np.testing.assert_allclose(encoder.encode_queries(texts), own(in_torch, texts), atol=1e-5)
    assert len(runs) > threads and all(name.startswith("udr-onnx") for name, _ in runs)


def test_fewer_texts_than_threads_are_computed_by_all_of_them_together(
    in_torch: SentenceEncoder, cache: Path, runs: list[tuple[str, int]]
) -> None:
    encoder = OnnxEncoder.of(in_torch, 3)
    runs.clear()

    np.testing.assert_allclose(encoder.encode_queries(TEXTS[:2]), own(in_torch, TEXTS[:2]), atol=1e-5)
    assert {threads for _, threads in runs} == {3}
    runs.clear()
    encoder.encode_queries(TEXTS)
    assert {threads for _, threads in runs} == {1}


def test_a_piece_that_fails_fails_the_call(
    in_torch: SentenceEncoder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = OnnxEncoder.of(in_torch, 2)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", fail)

    with pytest.raises(RuntimeError, match="out of memory"):
        encoder.encode_queries(TEXTS)


def test_it_stands_for_the_model_it_was_made_from(in_torch: SentenceEncoder, in_onnx: OnnxEncoder) -> None:
    assert in_onnx.name == in_torch.name
    assert (in_onnx.fingerprint, in_onnx.dimension, in_onnx.metric) == (in_torch.fingerprint, WIDTH, "cosine")
    np.testing.assert_array_equal(in_onnx.encode_demonstrations(TEXTS), in_torch.encode_demonstrations(TEXTS))


def test_a_model_is_exported_once(
    in_torch: SentenceEncoder, in_onnx: OnnxEncoder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_encoder, "_export", never)

    again = OnnxEncoder.of(in_torch, 1)

    np.testing.assert_array_equal(again.encode_queries(TEXTS), in_onnx.encode_queries(TEXTS))
    assert [path.name for path in (cache / "onnx").iterdir()] == [f"{in_torch.fingerprint}-{VERSION}"]


@pytest.fixture
def own_cache(in_onnx: OnnxEncoder, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that a test may spoil, with the export of ``in_torch``; returns that export's folder."""
    copied = Path(shutil.copytree(cache, tmp_path / "cache"))
    monkeypatch.setenv("UDR_CACHE", str(copied))
    return copied / "onnx" / f"{in_onnx.fingerprint}-{VERSION}"


def test_an_export_that_computes_something_else_is_refused(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SentenceEncoder.load(str(save_towers(tmp_path / "other", seed=7)), device="cpu")
    own_cache.rename(own_cache.with_name(f"{other.fingerprint}-{VERSION}"))
    monkeypatch.setattr(onnx_encoder, "_export", never)

    with pytest.raises(ModelError, match=r"in ONNX Runtime agrees with torch only to -?0\.\d+"):
        OnnxEncoder.of(other, 1)


def test_a_damaged_export_is_named(own_cache: Path, in_torch: SentenceEncoder) -> None:
    (own_cache / "queries.onnx").write_bytes(b"no graph")

    with pytest.raises(ModelError, match=rf"{own_cache}.*onnxruntime cannot open it: .*delete its folder"):
        OnnxEncoder.of(in_torch, 1)


def test_a_failed_export_leaves_nothing_and_says_why(
    in_torch: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("step 1 of 3\nand more") from ValueError("a branch that depends on the text")

    monkeypatch.setenv("UDR_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.onnx, "export", fail)

    with pytest.raises(ModelError, match=r"cannot be exported to .*: a branch that depends on the text$"):
        OnnxEncoder.of(in_torch, 1)
    assert list((tmp_path / "onnx").iterdir()) == []


def test_an_export_that_another_process_finished_first_is_taken(
    own_cache: Path, in_torch: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = own_cache.rename(own_cache.with_name("elsewhere"))

    def late(_encoder: object, _tokens: object, path: Path) -> None:
        path.write_bytes(b"the later one")
        finished.rename(own_cache)

    monkeypatch.setattr(onnx_encoder, "_export", late)

    np.testing.assert_allclose(OnnxEncoder.of(in_torch, 1).encode_queries(TEXTS), own(in_torch, TEXTS), atol=1e-5)
    assert [path.name for path in own_cache.parent.iterdir()] == [own_cache.name]


def test_what_killed_exports_left_is_deleted_after_a_day(
    in_torch: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path))
    monkeypatch.setattr(onnx_encoder, "_export", never)
    old, new = (tmp_path / "onnx" / f"{in_torch.fingerprint}-{VERSION}.{process}" for process in (1, 2))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "queries.onnx").write_bytes(b"half")
    os.utime(old, (0, 0))

    with pytest.raises(ModelError, match="exported again"):
        OnnxEncoder.of(in_torch, 1)
    assert list((tmp_path / "onnx").iterdir()) == [new]


def test_a_cache_that_cannot_be_written_is_named(
    in_torch: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "file"))

    with pytest.raises(ModelError, match=r"cannot be exported to .*Not a directory"):
        OnnxEncoder.of(in_torch, 1)


def test_a_model_that_does_more_to_queries_than_its_tokenizer_is_refused(
    in_torch: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(in_torch.__dict__, "query_tokens", None)

    with pytest.raises(ModelError, match="preprocesses queries beyond its tokenizer, and cannot be exported"):
        OnnxEncoder.of(in_torch, 1)


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({"HOME": "/home/x"}, "/home/x/.cache/udr"),
        ({"HOME": "/home/x", "XDG_CACHE_HOME": "/var/cache"}, "/var/cache/udr"),
        ({"HOME": "/home/x", "XDG_CACHE_HOME": "/var/cache", "UDR_CACHE": "/big"}, "/big"),
    ],
)
def test_exports_are_kept_where_caches_are(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], cache: str
) -> None:
    for name in ("UDR_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert str(cache_folder()) == cache


@pytest.mark.slow
def test_a_dot_product_model_keeps_its_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    encoder = SentenceEncoder.load(str(save_encoder(tmp_path / "tiny")), device="cpu")
    encoder.model.similarity_fn_name = "dot"

    found = OnnxEncoder.of(encoder, 1).encode_queries(TEXTS)

    np.testing.assert_allclose(found, own(encoder, TEXTS), atol=1e-4)
    assert not np.allclose(np.linalg.norm(found, axis=1), 1, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["xlm-roberta", "mpnet", "modernbert", "qwen3", "gemma3", "t5"])
def test_encoders_of_many_architectures_compute_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    encoder = SentenceEncoder.load(str(save_architecture(tmp_path / "model", architecture)), device="cpu")

    found = OnnxEncoder.of(encoder, 1).encode_queries(PROBES)

    assert agreement(own(encoder, list(PROBES)).astype(np.float32), found) > 0.999999


@pytest.mark.slow
def test_the_embedded_encoder_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDR_CACHE", str(tmp_path))

    found = load_encoder(DEFAULT_ENCODER, "cpu", "onnx")

    assert isinstance(found, OnnxEncoder)
    expected = own(SentenceEncoder.load(DEFAULT_ENCODER, device="cpu"), list(PROBES)).astype(np.float32)
    assert agreement(expected, found.encode_queries(PROBES)) > 0.99999
