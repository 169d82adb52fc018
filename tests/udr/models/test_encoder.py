"""The Sentence-Transformers adapter, with a tiny model in the real format."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.udr.models.tiny_encoders import load, own_vectors
from udr.errors import ModelError
from udr.models import PROBES, DType, Encoder, SentenceEncoder, agreement, fingerprint

TEXTS = ["Where?", "A longer text, so that there is something to pad.", "Where?"]


@pytest.fixture
def encoder(model: Path) -> SentenceEncoder:
    return load(model)


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """Return a copy of the model that a test may change."""
    return Path(shutil.copytree(model, tmp_path / "copy"))


def configure(folder: Path, **changes: Any) -> None:
    config = folder / "config_sentence_transformers.json"
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), **changes}), "utf-8")


def test_an_encoder_returns_a_unit_vector_for_each_text(encoder: SentenceEncoder, model: Path) -> None:
    protocol: Encoder = encoder
    vectors = protocol.encode_demonstrations(TEXTS)
    assert (protocol.name, protocol.dimension, protocol.metric) == (str(model), 32, "cosine")
    assert protocol.fingerprint == fingerprint(model)
    assert vectors.dtype == np.float32 and vectors.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    single = np.vstack([protocol.encode_demonstrations([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, single, atol=1e-5)
    assert protocol.encode_queries([]).shape == (0, 32)


@pytest.mark.parametrize(
    ("device", "window", "expected"),
    [("cpu", 256, 32), ("meta", 256, 256), ("meta", 1024, 128), ("meta", 8192, 32)],
)
def test_batches_are_larger_beside_the_cpu_unless_texts_may_be_long(
    copy: Path, device: str, window: int, expected: int
) -> None:
    settings = copy / "sentence_bert_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text("utf-8")), "max_seq_length": window}), "utf-8")
    assert SentenceEncoder.load(str(copy), device).batch_size == expected
    assert SentenceEncoder.load(str(copy), device, batch_size=7).batch_size == 7


def test_prompts_of_the_model_are_used(encoder: SentenceEncoder, copy: Path) -> None:
    configure(copy, prompts={"query": "ask: ", "document": "show: "})
    prompted = load(copy)
    np.testing.assert_allclose(prompted.encode_queries(["x"]), encoder.encode_queries(["ask: x"]), atol=1e-6)
    np.testing.assert_allclose(prompted.encode_demonstrations(["x"]), encoder.encode_queries(["show: x"]), atol=1e-6)
    assert prompted.fingerprint != encoder.fingerprint


def test_dot_products_keep_lengths_and_other_metrics_are_refused(copy: Path) -> None:
    configure(copy, similarity_fn_name="dot")
    encoder = load(copy)
    assert encoder.metric == "dot"
    assert not np.allclose(np.linalg.norm(encoder.encode_queries(TEXTS), axis=1), 1, atol=0.1)
    configure(copy, similarity_fn_name="euclidean")
    with pytest.raises(ModelError, match=r"compares by euclidean; udr supports cosine and dot"):
        _ = load(copy).metric


def test_a_folder_without_an_encoder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not an encoder; it needs a modules.json or a config.json"):
        load(tmp_path)
    (tmp_path / "modules.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match="cannot be loaded from"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"encoder_wording": "0123456789abcdef"}', "trained with the encoder wording 0123456789abcdef"),
        ("[", r"udr.json must be a JSON object"),
    ],
)
def test_a_model_trained_with_another_wording_is_an_error(copy: Path, record: str, message: str) -> None:
    (copy / "udr.json").write_text(record, "utf-8")
    with pytest.raises(ModelError, match=message):
        load(copy)


def test_queries_get_the_vectors_of_the_models_own_method(encoder: SentenceEncoder) -> None:
    assert encoder.query_tokenizer is not None
    texts = [*TEXTS, *PROBES]
    for text in texts:
        np.testing.assert_array_equal(encoder.encode_queries([text]), own_vectors(encoder, [text]))
    np.testing.assert_allclose(encoder.encode_queries(texts), own_vectors(encoder, texts), atol=1e-6)


def test_a_model_without_a_direct_tokenizer_encodes_queries_by_its_own_method(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encoder.encode_queries(TEXTS)
    monkeypatch.setitem(encoder.__dict__, "query_tokenizer", None)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-6)


def test_dropout_is_off_and_vectors_are_truncated_to_the_models_dimension(encoder: SentenceEncoder) -> None:
    expected = encoder.encode_queries(TEXTS)
    encoder.model.train()
    np.testing.assert_array_equal(encoder.encode_queries(TEXTS), expected)
    encoder.model.truncate_dim = 8
    vectors = encoder.encode_queries(TEXTS)
    assert vectors.shape == (3, encoder.dimension) == (3, 8)
    np.testing.assert_allclose(vectors, own_vectors(encoder, TEXTS), atol=1e-6)


def test_queries_are_encoded_by_their_own_tower(towers: Path) -> None:
    encoder = load(towers)
    assert encoder.query_tokenizer is not None
    expected = own_vectors(encoder, TEXTS)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-6)
    assert not np.allclose(encoder.encode_demonstrations(TEXTS), expected, atol=0.1)


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.999), ("float16", 0.99999)])
def test_half_precision_gives_nearly_equal_unit_vectors(towers: Path, dtype: DType, least: float) -> None:
    # The pooling and dense layers after the transformers stay in float32.
    expected = load(towers).encode_queries(PROBES)
    encoder = SentenceEncoder.load(str(towers), device="cpu", dtype=dtype)
    vectors = encoder.encode_queries(PROBES)
    assert encoder.dtype == dtype
    assert encoder.fingerprint == fingerprint(towers)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert least < agreement(expected, vectors) < 1


def test_weights_saved_in_bfloat16_are_loaded_in_float32(encoder: SentenceEncoder, tmp_path: Path) -> None:
    encoder.model.bfloat16().save_pretrained(str(tmp_path))
    assert {parameter.dtype for parameter in load(tmp_path).model.parameters()} == {torch.float32}
