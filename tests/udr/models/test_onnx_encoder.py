"""ONNX Runtime compared with torch: equal numbers, one export, and an error if they disagree."""

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
from onnx import load as load_graph
from onnx import numpy_helper
from sentence_transformers import SentenceTransformer

from tests.udr.models.tiny_encoders import WIDTH, load, own_vectors, save_architecture, save_towers
from udr.errors import ModelError
from udr.models import (
    DEFAULT_ENCODER,
    PROBES,
    VERSION,
    Description,
    Encoder,
    OnnxEncoder,
    SentenceEncoder,
    agreement,
    exported,
    load_encoder,
    onnx,
    onnx_encoder,
)

TEXTS = ["Where?", "A longer text, so that there is something to pad.", "x" * 1000, "Où? 日本", "Where?"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder of this module's exports."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UDR_CACHE", str(folder))
        yield folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache for one test."""
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def in_torch(towers: Path) -> SentenceEncoder:
    return load(towers)


@pytest.fixture(scope="module")
def in_onnx(in_torch: SentenceEncoder, cache: Path) -> OnnxEncoder:
    return onnx_encoder(in_torch, 1)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record the calling thread and the number of the session's threads for each run of a session."""
    runs: list[tuple[str, int]] = []
    run = onnxruntime.InferenceSession.run

    def record(session: onnxruntime.InferenceSession, *arguments: Any) -> Any:
        runs.append((threading.current_thread().name, session.get_session_options().intra_op_num_threads))
        return run(session, *arguments)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", record)
    return runs


def fail(*_arguments: object, **_options: object) -> None:
    raise RuntimeError("step 1 of 3\nand more") from ValueError("a branch that depends on the text")


def test_queries_get_the_numbers_of_torch_and_the_identity_of_the_model(
    in_torch: SentenceEncoder, in_onnx: OnnxEncoder
) -> None:
    encoder: Encoder = in_onnx
    vectors = encoder.encode_queries(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (5, WIDTH)
    np.testing.assert_allclose(vectors, own_vectors(in_torch, TEXTS), atol=1e-5)
    np.testing.assert_allclose(vectors, np.vstack([encoder.encode_queries([text]) for text in TEXTS]), atol=1e-5)
    assert encoder.encode_queries([]).shape == (0, WIDTH)
    assert (encoder.name, encoder.fingerprint) == (in_torch.name, in_torch.fingerprint)
    assert (encoder.dimension, encoder.metric) == (WIDTH, "cosine")
    shown = encoder.encode_demonstrations(TEXTS)
    np.testing.assert_allclose(shown, in_torch.encode_demonstrations(TEXTS), atol=1e-5)
    # Two towers, with a prompt each.
    assert not np.allclose(shown, vectors, atol=0.1)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[:2], [*PROBES, *TEXTS]], ids=len)
def test_threads_share_a_few_texts_and_divide_many(
    in_torch: SentenceEncoder, cache: Path, threads: int, texts: list[str], runs: list[tuple[str, int]]
) -> None:
    encoder = onnx_encoder(in_torch, threads)
    runs.clear()
    np.testing.assert_allclose(encoder.encode_queries(texts), own_vectors(in_torch, texts), atol=1e-5)
    if len(texts) <= threads:
        assert {count for _, count in runs} == {threads}
    else:
        assert {count for _, count in runs} == {1} and all(name.startswith("udr-onnx") for name, _ in runs)


def test_a_failed_batch_fails_the_call(in_onnx: OnnxEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", fail)
    with pytest.raises(RuntimeError, match="step 1 of 3"):
        in_onnx.encode_queries(TEXTS)


def test_a_model_is_exported_once(
    in_torch: SentenceEncoder, in_onnx: OnnxEncoder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx.export, "_export", fail)
    np.testing.assert_array_equal(onnx_encoder(in_torch, 1).encode_queries(TEXTS), in_onnx.encode_queries(TEXTS))
    assert [path.name for path in (cache / "onnx").iterdir()] == [f"{in_torch.fingerprint}-{VERSION}"]


@pytest.fixture
def copied(in_onnx: OnnxEncoder, cache: Path, own_cache: Path) -> Path:
    """Return the folder of a copy of the export, which a test may change."""
    shutil.copytree(cache, own_cache)
    return own_cache / "onnx" / f"{in_onnx.fingerprint}-{VERSION}"


def test_an_export_that_disagrees_with_torch_is_an_error(copied: Path, tmp_path: Path) -> None:
    other = load(save_towers(tmp_path / "other", seed=7))
    copied.rename(copied.with_name(f"{other.fingerprint}-{VERSION}"))
    with pytest.raises(ModelError, match=r"in ONNX Runtime agrees with torch only to a cosine of -?0\.\d+"):
        onnx_encoder(other, 1)


def test_a_damaged_export_is_an_error(copied: Path, in_torch: SentenceEncoder) -> None:
    (copied / "query/graph.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=rf"{copied}.*onnxruntime cannot open it: .*delete .* to export it again"):
        onnx_encoder(in_torch, 1)


def test_an_export_of_another_process_is_kept(
    copied: Path, in_torch: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = copied.rename(copied.with_name("elsewhere"))

    def write_late(_encoder: object, _tokenizers: object, folder: Path) -> None:
        (folder / "late").write_bytes(b"")
        finished.rename(copied)

    monkeypatch.setattr(onnx.export, "_write", write_late)

    vectors = onnx_encoder(in_torch, 1).encode_queries(TEXTS)
    np.testing.assert_allclose(vectors, own_vectors(in_torch, TEXTS), atol=1e-5)
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_a_failed_export_leaves_no_files_and_deletes_those_of_killed_processes_after_a_day(
    in_torch: SentenceEncoder, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx, "export", fail)
    staging = f".{in_torch.fingerprint}-{VERSION}"
    old, new = (own_cache / "onnx" / f"{staging}.{process}-0123abcd" for process in (1, 2))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "graph.onnx").write_bytes(b"half")
    os.utime(old, (0, 0))
    with pytest.raises(ModelError, match=r"cannot be exported to .*: a branch that depends on the text$"):
        onnx_encoder(in_torch, 1)
    assert list((own_cache / "onnx").iterdir()) == [new]


def test_a_cache_that_cannot_be_written_or_a_missing_tokenizer_is_an_error(
    in_torch: SentenceEncoder, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.write_text("", "utf-8")
    with pytest.raises(ModelError, match=r"cannot be exported to .*Not a directory"):
        onnx_encoder(in_torch, 1)
    monkeypatch.setitem(in_torch.__dict__, "query_tokenizer", None)
    with pytest.raises(ModelError, match="preprocesses texts beyond its tokenizer, and cannot be exported"):
        onnx_encoder(in_torch, 1)


@pytest.fixture(scope="module")
def in_int8(in_torch: SentenceEncoder, cache: Path) -> OnnxEncoder:
    return onnx_encoder(in_torch, 2, "onnx-int8")


def test_queries_in_8_bits_are_near_float32_and_demonstrations_are_in_float32(
    in_torch: SentenceEncoder, in_onnx: OnnxEncoder, in_int8: OnnxEncoder
) -> None:
    found, exact = in_int8.encode_queries(TEXTS), in_onnx.encode_queries(TEXTS)
    cosines = (found * exact).sum(axis=1)
    assert found.dtype == np.float32 and 0.9 < cosines.min() < 1 and not np.allclose(found, exact, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(in_int8.encode_demonstrations(TEXTS), in_onnx.encode_demonstrations(TEXTS))
    assert (in_int8.fingerprint, in_int8.metric) == (in_torch.fingerprint, "cosine")
    assert in_int8.agreement_with(in_torch) == Description.read(exported(in_torch, "onnx-int8")).int8_agreement


def test_the_weights_in_8_bits_are_those_of_the_graph_to_half_a_step(in_torch: SentenceEncoder, cache: Path) -> None:
    """The oracle: each column of a weight has the scale max / 127, and each number is rounded to it."""
    folder = exported(in_torch, "onnx-int8") / "query"
    exact, quantised = (
        {item.name: numpy_helper.to_array(item, str(folder)) for item in load_graph(folder / name).graph.initializer}
        for name in ("graph.onnx", "graph-int8.onnx")
    )
    exact |= {f"{name}_Transposed": weights.T for name, weights in exact.items()}
    pairs = [(name, name.removesuffix("_quantized")) for name in quantised if name.endswith("_quantized")]
    assert len(pairs) > 4
    for name, original in pairs:
        weights, scale = exact[original], np.abs(exact[original]).max(axis=0) / 127
        assert quantised[name].dtype == np.int8
        np.testing.assert_allclose(quantised[f"{original}_scale"], scale, rtol=0.01)
        assert (np.abs(quantised[name] * quantised[f"{original}_scale"] - weights) <= 0.51 * scale + 1e-9).all()


def test_equal_graphs_in_8_bits_have_equal_bytes_and_name_no_path(
    in_torch: SentenceEncoder, in_int8: OnnxEncoder, cache: Path, copied: Path
) -> None:
    shutil.rmtree(copied.with_name(f"{copied.name}-int8"))
    content = (exported(in_torch, "onnx-int8") / "query/graph-int8.onnx").read_bytes()
    folder = cache / "onnx" / f"{in_torch.fingerprint}-{VERSION}-int8"
    assert content == (folder / "query/graph-int8.onnx").read_bytes() and b"/tmp" not in content


def test_a_graph_that_cannot_be_quantised_is_an_error(
    in_torch: SentenceEncoder, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copied.with_name(f"{copied.name}-int8"), ignore_errors=True)
    monkeypatch.setattr("onnxruntime.quantization.quantize_dynamic", fail)
    with pytest.raises(ModelError, match=r"cannot be quantised in .*-int8: step 1 of 3"):
        onnx_encoder(in_torch, 1, "onnx-int8")
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_reads_the_same_graph(in_torch: SentenceEncoder, cache: Path, threads: int) -> None:
    pytest.importorskip("openvino")
    encoder = onnx_encoder(in_torch, threads, "openvino")
    for texts in (TEXTS[:1], [*PROBES, *TEXTS]):
        found, expected = encoder.encode_queries(texts), own_vectors(in_torch, texts)
        assert found.shape == expected.shape and agreement(expected, found) > 0.99
    # One request a thread: what a call returned is not overwritten by the next.
    first = encoder.encode_queries(TEXTS[:1])
    before = first.copy()
    encoder.encode_queries(TEXTS[1:2])
    np.testing.assert_array_equal(first, before)
    assert encoder.encode_queries([]).shape == (0, WIDTH)


def test_a_damaged_graph_is_an_error_in_openvino(copied: Path, in_torch: SentenceEncoder) -> None:
    pytest.importorskip("openvino")
    (copied / "query/graph.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=rf"{copied}.*openvino cannot open it: .*delete .* to export it again"):
        onnx_encoder(in_torch, 1, "openvino")


def save_prompts(folder: Path, model: Path, *, pooled: bool) -> Path:
    """Save a model with a prompt for each role."""
    changed = SentenceTransformer(str(model), device="cpu", prompts={"query": "q: ", "document": "a longer one: "})
    pooling: Any = changed[1]
    pooling.include_prompt = pooled
    changed.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def prompted(model: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    """Return a model with a prompt for each role, which is exported."""
    encoder = load(save_prompts(tmp_path_factory.mktemp("prompted") / "model", model, pooled=True))
    exported(encoder)
    return encoder


def test_roles_with_other_prompts_share_a_graph(prompted: SentenceEncoder) -> None:
    in_torch, in_onnx = prompted, onnx_encoder(prompted, 1)
    assert not (exported(in_torch) / "demonstration").exists()
    queries, shown = in_onnx.encode_queries(TEXTS), in_onnx.encode_demonstrations(TEXTS)
    np.testing.assert_allclose(queries, own_vectors(in_torch, TEXTS), atol=1e-5)
    np.testing.assert_allclose(shown, in_torch.encode_demonstrations(TEXTS), atol=1e-5)
    assert not np.allclose(queries, shown, atol=1e-3)


def test_equal_exports_have_equal_bytes_and_name_no_path_of_this_machine(
    prompted: SentenceEncoder, cache: Path, own_cache: Path
) -> None:
    again = exported(prompted)
    first = cache / again.relative_to(own_cache)
    files = [path for path in again.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"graph.onnx", "tokenizer.json", "encoder.json"}
    for path in files:
        content = path.read_bytes()
        assert content == (first / path.relative_to(again)).read_bytes()
        assert b"/udr/" not in content and b"site-packages" not in content, path


def test_a_model_that_leaves_the_prompt_out_of_the_pooling_cannot_be_exported(
    model: Path, tmp_path: Path, own_cache: Path
) -> None:
    in_torch = load(save_prompts(tmp_path / "prompts", model, pooled=False))
    with pytest.raises(ModelError, match="leaves its prompt out of the pooling, and cannot be exported"):
        onnx_encoder(in_torch, 1)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["xlm-roberta", "mpnet", "modernbert", "qwen3", "gemma3", "t5"])
def test_encoders_of_many_architectures_agree(tmp_path: Path, own_cache: Path, architecture: str) -> None:
    encoder = load(save_architecture(tmp_path / "model", architecture))
    vectors = onnx_encoder(encoder, 1).encode_queries(PROBES)
    assert agreement(own_vectors(encoder, PROBES), vectors) > 0.999999


@pytest.mark.slow
def test_the_embedded_encoder_agrees(own_cache: Path) -> None:
    encoder = load_encoder(DEFAULT_ENCODER, "cpu", "onnx")
    assert isinstance(encoder, OnnxEncoder)
    expected = own_vectors(load(DEFAULT_ENCODER), PROBES)
    assert agreement(expected, encoder.encode_queries(PROBES)) > 0.99999
