"""The real embedded models on the example tasks: the language model from its GGUF, and the encoder."""

from pathlib import Path

import numpy as np
import pytest

from udr.data import open_collection
from udr.models import BASE_ENCODER, DEFAULT_ENCODER, DEFAULT_LM, SentenceEncoder
from udr_training.evaluation import open_retriever
from udr_training.feedback import prompt_of
from udr_training.feedback.local import CausalLM, plain_log_likelihoods

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples" / "tasks"


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return CausalLM.load(DEFAULT_LM)


@pytest.mark.parametrize("task", ["home_assistant", "product_reviews", "everyday_physics", "shop_sql"])
def test_packed_scores_equal_plain_ones(lm: CausalLM, task: str) -> None:
    pool = open_collection(EXAMPLES, [task]).tasks[task].pool()
    prompts = [prompt_of(lm, pool.task, query, [shown]) for shown in pool.rows[:2] for query in pool.rows[10:12]]
    assert lm.packing is not None
    plain = plain_log_likelihoods(lm.model, prompts)
    for packed, sums in zip(lm.likelihoods(prompts), plain, strict=True):
        np.testing.assert_allclose(packed.sums, sums, atol=1e-4)


def test_the_language_model_follows_its_demonstrations(lm: CausalLM) -> None:
    prompt = lm.tokens("Word: cat\nCopy: cat\n\nWord: house\nCopy: house\n\nWord: river\nCopy:", start=True)
    assert lm.generate([prompt], ["\n"], 5) == ["river"]


def test_the_encoder_finds_demonstrations_of_the_same_intent() -> None:
    folder = open_collection(EXAMPLES, ["home_assistant"]).tasks["home_assistant"]
    pool, queries = folder.pool(), folder.rows("test")
    shares = {}
    for name in ("random", DEFAULT_ENCODER):
        shown = open_retriever(name, 0).demonstrations(pool, queries, 3)
        shares[name] = np.mean(
            [[row.target == query.target for row in item.rows] for query, item in zip(queries, shown, strict=True)]
        )
    assert shares[DEFAULT_ENCODER] > 0.5 > 0.2 > shares["random"]


@pytest.mark.parametrize("name", [BASE_ENCODER, DEFAULT_ENCODER])
def test_the_encoder_has_unit_vectors_of_384_dimensions(name: str) -> None:
    encoder = SentenceEncoder.load(name)
    vectors = encoder.encode_queries(["one", "another"])
    assert vectors.shape == (2, encoder.dimension) == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
