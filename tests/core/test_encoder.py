"""The Sentence-Transformers adapter, on a tiny model in the real format."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import save_encoder
from udr.encoder import Encoder, SentenceEncoder
from udr.errors import ModelError
from udr.models import fingerprint


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

    with pytest.raises(ModelError, match=r"compares by euclidean; udr searches by cosine or dot product"):
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
