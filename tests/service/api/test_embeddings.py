"""Embeddings, requested by OpenAI's own library."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import openai
import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.service.conftest import served
from udr import Retriever


@pytest.fixture
def client(service: TestClient) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=service, max_retries=0) as client:
        yield client


def test_openai_s_library_gets_the_encoder_s_vectors(client: openai.OpenAI, encoder: HashEncoder) -> None:
    texts = ["a dull day", "what a fine monday"]
    # The library's default is base64.
    for encoding in (openai.omit, "float"):
        answer = client.embeddings.create(model="any", input=texts, encoding_format=cast("Any", encoding))
        vectors = np.array([item.embedding for item in answer.data], dtype=np.float32)
        np.testing.assert_array_equal(vectors, HashEncoder().encode_queries(texts))
        assert [item.index for item in answer.data] == [0, 1]
        assert answer.model == "fake-hash"
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 7
    client.embeddings.create(model="any", input="a dull day", extra_body={"input_type": "demonstration"})
    assert (encoder.queries, encoder.demonstrations) == (texts * 2, ["a dull day"])


def test_a_gateway_refuses_other_models_than_its_encoder(retriever: Retriever) -> None:
    with served(retriever, upstream="http://127.0.0.1:9/v1") as client:
        for model, status in (("fake-hash", 200), (None, 200), ("text-embedding-3-small", 404)):
            answer = client.post("/v1/embeddings", json={"input": "a dull day", "model": model})
            assert answer.status_code == status
        message = answer.json()["error"]["message"]
        assert "unknown model 'text-embedding-3-small': embeddings are not forwarded" in message
        assert message.endswith("'fake-hash'")


@pytest.mark.parametrize("input_type", ["query", "demonstration"])
def test_half_a_surrogate_pair_is_the_client_s_error(service: TestClient, input_type: str) -> None:
    body = f'{{"input": ["a", "b\\ud800"], "input_type": "{input_type}"}}'
    answer = service.post("/v1/embeddings", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert "text 2 is not valid text: character 2, '\\ud800', is half a" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({"input": []}, 422, "invalid-input", "at least one text"),
        ({"input": ["a", " "]}, 422, "invalid-input", "text 2 is empty"),
        (
            {"input": [1, 2]},
            422,
            "invalid-input",
            "in LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False",
        ),
        (
            {"input": [[1, 2]]},
            422,
            "invalid-input",
            "in LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False",
        ),
        ({"input": None}, 422, "invalid-input", "/input"),
        ({"input": "a", "x": 1}, 422, "invalid-input", "/x: is not a field"),
        ({"input": "a", "dimensions": 7}, 422, "invalid-input", "dimensions must be 48"),
        ({"input": "a", "input_type": "passage"}, 422, "invalid-input", "/input_type"),
        ({"input": "a" * 40_000}, 413, "too-long", "text 1 has 40000 characters; the limit is 32768"),
        ({"input": ["a"] * 65}, 413, "batch-too-large", "the batch has 65 items; the limit is 64"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_have_openai_s_shape(
    service: TestClient, client: openai.OpenAI, body: dict[str, Any], status: int, code: str, message: str
) -> None:
    answer = service.post("/v1/embeddings", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["type"]) == (code, code.replace("-", "_"))
    assert message in error["message"]
    with pytest.raises(openai.APIStatusError) as raised:
        client.embeddings.create(model="any", input=body["input"], extra_body=body)
    assert raised.value.code == code
