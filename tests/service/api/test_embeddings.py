"""Embeddings as OpenAI's own library asks for them."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder


@pytest.fixture
def theirs(service: TestClient) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url="http://testserver/v1", api_key="none", http_client=service, max_retries=0) as client:
        yield client


def test_their_library_gets_the_encoder_s_vectors(theirs: openai.OpenAI, encoder: HashEncoder) -> None:
    texts = ["a dull day", "what a fine monday"]
    answer = theirs.embeddings.create(model="any", input=texts)
    vectors = np.array([one.embedding for one in answer.data], dtype=np.float32)
    np.testing.assert_array_equal(vectors, HashEncoder().encode_queries(texts))
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.model == "fake-hash"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 7
    assert (encoder.queries, encoder.demonstrations) == (texts, [])


def test_a_text_is_read_as_what_it_is_said_to_be(theirs: openai.OpenAI, encoder: HashEncoder) -> None:
    theirs.embeddings.create(model="any", input="a dull day", extra_body={"input_type": "demonstration"})
    assert (encoder.queries, encoder.demonstrations) == ([], ["a dull day"])


def test_both_encodings_say_the_same(service: TestClient) -> None:
    numbers, coded = (
        service.post("/v1/embeddings", json={"input": "a dull day", "encoding_format": encoding}).json()["data"][0]
        for encoding in ("float", "base64")
    )
    decoded = np.frombuffer(base64.b64decode(coded["embedding"]), "<f4")
    np.testing.assert_array_equal(decoded, np.array(numbers["embedding"], dtype=np.float32))


BAD: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no text": ({"input": []}, 422, "invalid-input", "at least one text"),
    "an empty text": ({"input": ["a", " "]}, 422, "invalid-input", "text 2 is empty"),
    "tokens": ({"input": [1, 2]}, 422, "invalid-input", "/input"),
    "an unknown field": ({"input": "a", "x": 1}, 422, "invalid-input", "/x: is not a field"),
    "other dimensions": ({"input": "a", "dimensions": 7}, 422, "invalid-input", "dimensions must be 48"),
    "another type": ({"input": "a", "input_type": "passage"}, 422, "invalid-input", "/input_type"),
    "a long text": ({"input": "a" * 40_000}, 413, "too-long", "text 1 has 40000 characters; the limit is 32768"),
    "many texts": ({"input": ["a"] * 65}, 413, "batch-too-large", "the batch has 65 texts; the limit is 64"),
}


@pytest.mark.parametrize(("body", "status", "code", "message"), BAD.values(), ids=list(BAD))
def test_what_is_refused_has_their_shape(
    service: TestClient, body: dict[str, Any], status: int, code: str, message: str
) -> None:
    answer = service.post("/v1/embeddings", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["type"]) == (code, code.replace("-", "_"))
    assert message in error["message"]


def test_their_library_raises_what_was_refused(theirs: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="at least one text") as caught:
        theirs.embeddings.create(model="any", input=[])
    assert caught.value.code == "invalid-input"
