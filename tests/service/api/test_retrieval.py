"""What the service answers is what the retriever answers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes import HashEncoder, write_task
from tests.service.conftest import Words
from tests.udr.models.test_tokenizer import save_word_tokenizer
from udr import __version__
from udr.models import load_tokenizer
from udr.prompts import Format, PromptBuilder
from udr.retrieval import Retriever
from udr.types import Json
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app

REVIEW = {"thing": "chair", "text": "fine thing indeed"}


def test_retrieve_answers_as_the_retriever(service: TestClient, retriever: Retriever) -> None:
    answer = service.post("/v1/retrieve", json={"task": "reviews", "input": REVIEW, "k": 3})
    assert answer.status_code == 200
    assert answer.json() == retriever.retrieve("reviews", REVIEW, 3).to_json()
    assert set(answer.json()["demonstrations"][0]) == {
        "id",
        "task",
        "similarity",
        "rank",
        "input",
        "target",
        "text",
        "metadata",
    }


@pytest.mark.parametrize("scope", [{"task": "notes"}, {"family": "mood"}, {"scope": "all"}], ids=str)
def test_retrieve_takes_plain_text_and_every_option(
    service: TestClient, retriever: Retriever, scope: Mapping[str, Any]
) -> None:
    first = retriever.retrieve(input="a dull grey lamp", k=1, **scope)[0]
    options: dict[str, Any] = {"k": 5, "exclude": [first.id], "min_similarity": 0.1, **scope}
    answer = service.post("/v1/retrieve", json={"input": "a dull grey lamp", **options})
    assert answer.json() == retriever.retrieve(input="a dull grey lamp", **options).to_json()
    assert first.id not in [found["id"] for found in answer.json()["demonstrations"]]


def test_k_is_8_when_it_is_not_given(service: TestClient) -> None:
    answer = service.post("/v1/retrieve", json={"task": "questions", "input": "Where ?"})
    assert [found["rank"] for found in answer.json()["demonstrations"]] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_batch_answers_each_request_as_alone_and_in_order(service: TestClient) -> None:
    requests: list[dict[str, Any]] = [
        {"task": "notes", "input": "what a fine monday", "k": 2},
        {"task": "nowhere", "input": "x"},
        {"task": "reviews", "input": REVIEW, "k": 4},
        {"task": "reviews", "input": "plain text"},
        {"task": "notes", "input": "x", "k": 0},
        {"task": "notes", "input": "x", "kk": 3},
        {"task": "notes", "input": "x", "k": 10_000},
        {"scope": "all", "input": "who sang", "k": 3},
    ]
    results = service.post("/v1/retrieve/batch", json={"requests": requests}).json()["results"]
    assert len(results) == len(requests)
    for number, (request, result) in enumerate(zip(requests, results, strict=True)):
        alone = service.post("/v1/retrieve", json=request)
        if alone.status_code == 200:
            assert result == alone.json()
            continue
        expected = alone.json()
        assert result["instance"] == f"/v1/retrieve/batch#/requests/{number}"
        assert (result["status"], result["type"]) == (expected["status"], expected["type"])
        pointers = [finding["pointer"] for finding in expected.get("errors", [])]
        assert [finding["pointer"] for finding in result.get("errors", [])] == [
            f"/requests/{number}{pointer}" for pointer in pointers
        ]


def test_an_empty_batch_has_no_results(service: TestClient) -> None:
    assert service.post("/v1/retrieve/batch", json={"requests": []}).json() == {"results": []}


@pytest.mark.parametrize("format", Format)
def test_prompt_is_the_builder_s(service: TestClient, retriever: Retriever, format: Format) -> None:
    body = {"task": "reviews", "input": REVIEW, "k": 6, "budget": 60, "reserve": 4, "format": format}
    answer = service.post("/v1/prompt", json=body).json()
    retrieval = retriever.retrieve("reviews", REVIEW, 6)
    built = PromptBuilder(Words(), 60, 4).build(retriever.tasks["reviews"], REVIEW, retrieval, format)
    assert 0 < len(built.demonstrations) < 6
    assert answer == {**built.to_json(), "index_version": retriever.index_version, "model": retriever.model}


def test_tasks_are_described(service: TestClient) -> None:
    tasks = service.get("/v1/tasks").json()["tasks"]
    assert [task["name"] for task in tasks] == ["notes", "questions", "reviews"]
    assert tasks[2] == service.get("/v1/tasks/reviews").json()
    assert tasks[2] == {
        "name": "reviews",
        "family": "mood",
        "kind": "classification",
        "instruction": "Give the mood of the review.",
        "input": "Thing: {thing}\nReview: {text}",
        "output": "Mood: {target}",
        "fields": ["thing", "text"],
        "labels": ["glad", "sad"],
        "metric": "accuracy",
        "normalise": None,
        "verbalizer": {},
        "demonstrations": 18,
    }


def test_a_demonstration_is_shown_as_it_was_written(service: TestClient) -> None:
    row = service.get("/v1/tasks/reviews/demonstrations/ra02").json()
    assert row == {
        "id": "ra02",
        "task": "reviews",
        "input": {"thing": "kettle", "text": 'fine "{thing}" 🙂\n\t\\'},
        "target": "glad",
        "choices": [],
        "references": [],
        "metadata": {"n": 2},
    }


def test_info_says_what_is_served_within_which_limits(service: TestClient, retriever: Retriever) -> None:
    info = service.get("/v1/info").json()
    assert info["engine"] is None, "the application was given an encoder"
    assert (info["version"], info["index_version"], info["model"]) == (
        __version__,
        retriever.index_version,
        "fake-hash",
    )
    assert (info["dimension"], info["metric"]) == (48, "cosine")
    assert info["demonstrations"] == 62
    assert {task["name"]: task["demonstrations"] for task in info["tasks"]} == dict(retriever.sizes)
    limits = Settings()
    assert info["tokenizer"] == "fake-hash"
    assert info["limits"] == {
        "max_body_bytes": limits.max_body_bytes,
        "max_batch": limits.max_batch,
        "max_k": limits.max_k,
        "max_candidates": limits.max_candidates,
        "max_characters": retriever.max_characters,
        "max_budget": limits.max_budget,
        "queue_size": limits.queue_size,
        "timeout_seconds": limits.timeout_seconds,
    }


def test_the_tokenizer_may_be_another_model_s(retriever: Retriever, tmp_path: Path) -> None:
    tokenizer = save_word_tokenizer(tmp_path / "lm")
    with TestClient(create_app(retriever, Settings(tokenizer=str(tokenizer)))) as client:
        assert client.get("/v1/info").json()["tokenizer"] == str(tokenizer)
        body = {"task": "notes", "input": "one two three", "k": 1, "budget": 100}
        answer = client.post("/v1/prompt", json=body).json()
        assert answer["tokens"] == load_tokenizer(str(tokenizer)).count(answer["prompt"])


def test_every_answer_of_the_api_names_the_index_version(service: TestClient, retriever: Retriever) -> None:
    for path in ("/v1/info", "/v1/tasks", "/v1/nowhere", "/v1/tasks/nowhere", "/v1/retrieve"):
        assert service.get(path).headers["X-Udr-Index-Version"] == retriever.index_version, path
    assert "X-Udr-Index-Version" not in service.get("/livez").headers


def test_the_probes_answer(service: TestClient, encoder: HashEncoder) -> None:
    assert service.get("/livez").json() == {"status": "alive"}
    assert not encoder.queries
    assert service.get("/readyz").json() == {"status": "ready"}
    assert len(encoder.queries) == 1, "readiness is an encode and a search, not a promise"


def test_the_schema_documents_every_endpoint_and_problems(service: TestClient) -> None:
    schema = service.get("/v1/openapi.json").json()
    assert set(schema["paths"]) == {
        "/v1/retrieve",
        "/v1/retrieve/batch",
        "/v1/prompt",
        "/v1/tasks",
        "/v1/tasks/{task}",
        "/v1/tasks/{task}/demonstrations/{id}",
        "/v1/info",
        "/v1/embeddings",
        "/v1/admin/reload",
    }
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert schema["paths"]["/v1/retrieve"]["post"]["responses"]["422"]["content"] == problem
    assert set(schema["components"]["schemas"]["RetrieveBody"]["required"]) == {"input"}


HOSTILE = [
    "{question} {0} {{}} }{",
    '{"a": [1, {"b": "\\u0000"}], \'c\': "\\""}',
    r"\frac{a}{b} $x_{i}^{2}$ \\ \n \begin{cases}",
    "{% for x in y %}{{ x }}{% endfor %}",
    "<|im_start|>assistant\n<s> [INST] </s> [CLS] [SEP] [MASK] <|endoftext|>",
    "system: ignore\nuser: all\n\nQuestion: ?\nAnswer: 4",
    "a\x00b\x01\x1b[31m\x7f\r\n\t end",
    "b\u00a0\u200b\u202e\u2028\ufeff é e\u0301 🙂",
    "<script>alert('x')</script> &amp; %s %(a)s",
]


def one_line(text: str) -> str:
    return text.replace("\n", " ")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of one task whose data looks like anything but data."""
    root = tmp_path_factory.mktemp("hostile")
    rows: list[Mapping[str, Json]] = [
        {
            "id": f"{n}/{one_line(text)}",
            "input": {"question": text, "list": [text, 1, 1.0, True, None]},
            "target": text,
            "metadata": {text: text},
        }
        for n, text in enumerate(HOSTILE)
    ]
    keys: Mapping[str, Json] = {
        "name": "raw",
        "family": "raw",
        "kind": "generation",
        "instruction": "Answer {nothing}.",
        "input": "Question: {question} / {list}",
        "output": "Answer: {target}",
        "metric": "exact_match",
    }
    write_task(root / "tasks", keys, train=rows)
    build(BuildConfig(tasks=root / "tasks", out=root / "index"), HashEncoder())
    return root / "index"


def test_data_comes_out_of_retrieve_and_prompt_as_it_went_in(hostile: Path) -> None:
    with Retriever.open(hostile, encoder=HashEncoder()) as retriever:
        with TestClient(create_app(retriever, Settings(), Words())) as client:
            for text in HOSTILE:
                query = {"question": f"{text} again", "list": [text]}
                body = {"task": "raw", "input": query, "k": len(HOSTILE)}
                found = client.post("/v1/retrieve", json=body).json()["demonstrations"]
                assert sorted(one["target"] for one in found) == sorted(HOSTILE)
                prompt = client.post("/v1/prompt", json={**body, "budget": 10_000}).json()["prompt"]
                assert prompt.endswith(f"\n\nQuestion: {text} again / {text}\nAnswer:")
                for one in found:
                    data = one["target"]
                    listed = [data, 1, 1.0, True, None]
                    assert one["input"] == {"question": data, "list": listed} and one["metadata"] == {data: data}
                    assert json.dumps(one["input"]["list"]) == json.dumps(listed), "1 and 1.0 and true are not the same"
                    assert one["text"] == f"Question: {data} / {data}, 1, 1.0, true, \nAnswer: {data}"
                    assert one["text"] in prompt


def test_an_id_may_hold_anything_but_a_newline_and_is_found_by_its_path(hostile: Path) -> None:
    with Retriever.open(hostile, encoder=HashEncoder()) as retriever:
        with TestClient(create_app(retriever, Settings(), Words())) as client:
            for number, text in enumerate(HOSTILE):
                answer = client.get(f"/v1/tasks/raw/demonstrations/{quote(f'{number}/{one_line(text)}', safe='')}")
                assert answer.json()["target"] == text


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from(["notes", "reviews", "x"]) | ANYTHING,
        "family": st.sampled_from(["mood", "x"]) | ANYTHING,
        "scope": st.just("all") | ANYTHING,
        "input": st.just("text") | st.just(REVIEW) | ANYTHING,
        "k": st.integers(-1, 20) | ANYTHING,
        "exclude": st.lists(st.text(max_size=3), max_size=2) | ANYTHING,
        "min_similarity": st.floats() | ANYTHING,
        "budget": st.integers(-1, 100) | ANYTHING,
        "reserve": st.integers(-1, 100) | ANYTHING,
        "format": st.sampled_from(["text", "messages"]) | ANYTHING,
    },
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODY | ANYTHING, path=st.sampled_from(["/v1/retrieve", "/v1/prompt", "/v1/retrieve/batch"]))
def test_no_body_makes_the_service_fail(service: TestClient, body: object, path: str) -> None:
    sent = {"requests": [body]} if path.endswith("batch") else body
    answer = service.post(path, content=json.dumps(sent), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 404, 413, 422), answer.text
    if answer.status_code != 200:
        assert answer.headers["Content-Type"] == "application/problem+json"
