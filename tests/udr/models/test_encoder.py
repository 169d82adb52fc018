"""The Sentence-Transformers adapter, on a tiny model in the real format."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_models import save_encoder
from tests.udr.models.tiny_encoders import save_towers
from udr.errors import ModelError
from udr.models import PROBES, DType, Encoder, SentenceEncoder, agreement, fingerprint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may change."""
    return Path(shutil.copytree(model, tmp_path / "copy"))


TEXTS = ["Where?", "A longer text, so that there is something to pad.", "Where?"]


def test_an_encoder_gives_unit_vectors_one_for_each_text(model: Path) -> None:
    encoder: Encoder = SentenceEncoder.load(str(model), device="cpu")

    vectors = encoder.encode_demonstrations(TEXTS)

    assert (encoder.name, encoder.dimension, encoder.metric) == (str(model), 32, "cosine")
    assert encoder.fingerprint == fingerprint(model)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.allclose(vectors[0], vectors[2], atol=1e-6)
    alone = np.vstack([encoder.encode_demonstrations([text]) for text in TEXTS])
    assert np.allclose(vectors, alone, atol=1e-5)
    assert encoder.encode_queries([]).shape == (0, 32)


def test_prompts_kept_with_the_model_are_used(copy: Path) -> None:
    config = copy / "config_sentence_transformers.json"
    keys = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps({**keys, "prompts": {"query": "ask: ", "document": "show: "}}), "utf-8")
    prompted, plain = SentenceEncoder.load(str(copy), device="cpu"), copy.with_name("plain")
    config.write_text(json.dumps({**keys, "prompts": {}}), "utf-8")
    copy.rename(plain)
    bare = SentenceEncoder.load(str(plain), device="cpu")

    assert np.allclose(prompted.encode_queries(["x"]), bare.encode_queries(["ask: x"]), atol=1e-6)
    assert np.allclose(prompted.encode_demonstrations(["x"]), bare.encode_queries(["show: x"]), atol=1e-6)
    assert prompted.fingerprint != bare.fingerprint


def test_a_dot_product_model_keeps_its_lengths(copy: Path) -> None:
    config = copy / "config_sentence_transformers.json"
    config.write_text(json.dumps({**json.loads(config.read_text("utf-8")), "similarity_fn_name": "dot"}), "utf-8")
    encoder = SentenceEncoder.load(str(copy), device="cpu")

    assert encoder.metric == "dot"
    assert not np.allclose(np.linalg.norm(encoder.encode_queries(TEXTS), axis=1), 1, atol=0.1)


def test_a_metric_that_search_does_not_know_is_refused(copy: Path) -> None:
    config = copy / "config_sentence_transformers.json"
    keys = {**json.loads(config.read_text("utf-8")), "similarity_fn_name": "euclidean"}
    config.write_text(json.dumps(keys), "utf-8")

    with pytest.raises(ModelError, match=r"compares by euclidean; udr supports cosine and dot"):
        _ = SentenceEncoder.load(str(copy), device="cpu").metric


def test_a_folder_that_holds_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not an encoder; it needs a modules.json or a config.json"):
        SentenceEncoder.load(str(tmp_path))
    (tmp_path / "modules.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match="cannot be loaded from"):
        SentenceEncoder.load(str(tmp_path))


def test_a_model_trained_with_other_wording_is_refused(copy: Path) -> None:
    (copy / "udr.json").write_text('{"encoder_wording": "0123456789abcdef"}', "utf-8")

    with pytest.raises(ModelError, match="trained with the encoder wording 0123456789abcdef"):
        SentenceEncoder.load(str(copy), device="cpu")


def test_a_record_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / "udr.json").write_text("[", "utf-8")

    with pytest.raises(ModelError, match=r"udr.json must be a JSON object"):
        SentenceEncoder.load(str(copy), device="cpu")


def test_one_query_has_the_bits_that_the_models_own_method_gives_it(model: Path) -> None:
    encoder = SentenceEncoder.load(str(model), device="cpu")
    assert encoder.query_tokens is not None

    for text in [*TEXTS, *PROBES]:
        own = encoder.model.encode_query([text], normalize_embeddings=True, show_progress_bar=False)
        np.testing.assert_array_equal(encoder.encode_queries([text]), own)
    own = encoder.model.encode_query([*TEXTS, *PROBES], normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoder.encode_queries([*TEXTS, *PROBES]), own, atol=1e-6)


def test_a_model_with_a_tokenizer_of_its_own_kind_encodes_queries_its_own_way(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = SentenceEncoder.load(str(model), device="cpu")
    expected = encoder.encode_queries(TEXTS)
    monkeypatch.setitem(encoder.__dict__, "query_tokens", None)

    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-6)


def test_dropout_is_off_for_queries_of_a_model_in_training(model: Path) -> None:
    encoder = SentenceEncoder.load(str(model), device="cpu")
    expected = encoder.encode_queries(TEXTS)
    encoder.model.train()

    np.testing.assert_array_equal(encoder.encode_queries(TEXTS), expected)


def test_vectors_are_cut_where_the_model_is_set_so(model: Path) -> None:
    encoder = SentenceEncoder.load(str(model), device="cpu")
    encoder.model.truncate_dim = 8

    found = encoder.encode_queries(TEXTS)

    assert found.shape == (3, encoder.dimension) == (3, 8)
    own = encoder.model.encode_query(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(found, own, atol=1e-6)


def test_queries_go_through_their_own_tower(tmp_path: Path) -> None:
    folder = save_towers(tmp_path / "towers")
    encoder = SentenceEncoder.load(str(folder), device="cpu")
    assert encoder.query_tokens is not None

    own = encoder.model.encode_query(TEXTS, normalize_embeddings=True, show_progress_bar=False)

    np.testing.assert_allclose(encoder.encode_queries(TEXTS), own, atol=1e-6)
    assert not np.allclose(encoder.encode_demonstrations(TEXTS), own, atol=0.1)


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.999), ("float16", 0.99999)])
def test_half_the_bits_give_nearly_the_same_unit_vectors(tmp_path: Path, dtype: DType, least: float) -> None:
    # With towers, pooling and a dense layer: what follows the transformers stays in float32.
    folder = str(save_towers(tmp_path / "towers"))
    expected = SentenceEncoder.load(folder, device="cpu").encode_queries(PROBES)

    encoder = SentenceEncoder.load(folder, device="cpu", dtype=dtype)
    found = encoder.encode_queries(PROBES)

    assert encoder.dtype == dtype
    assert encoder.fingerprint == fingerprint(Path(folder))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert least < agreement(expected, found) < 1


def test_weights_saved_in_bfloat16_are_computed_with_in_float32(model: Path, tmp_path: Path) -> None:
    saved = SentenceEncoder.load(str(model), device="cpu").model
    saved.bfloat16().save_pretrained(str(tmp_path / "half"))

    encoder = SentenceEncoder.load(str(tmp_path / "half"), device="cpu")

    assert {parameter.dtype for parameter in encoder.model.parameters()} == {torch.float32}
