"""The component in Haystack's own pipelines."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("haystack", reason="needs haystack-ai: pip install 'udr-icl[haystack]'")

import haystack
from haystack import Pipeline
from haystack.components.builders import PromptBuilder

from tests.fakes import HashEncoder
from udr.client import AsyncClient, Client
from udr.data import Filter
from udr.errors import ConfigError, InvalidInputError
from udr.integrations import DemonstrationDocuments
from udr.retrieval import Retriever
from udr.store import IndexVersion, open_version, read_manifest
from udr_index.versions import upload

QUESTION = "Where is the old castle?"
TEMPLATE = "{% for d in documents %}{{ d.content }}\n\n{% endfor %}Question: {{ question }}\nAnswer type:"


# Of Haystack 2; in Haystack 3, all pipelines are.
AsyncPipeline = getattr(haystack, "AsyncPipeline", Pipeline)


def prompting(retriever: Any, kind: Any = Pipeline) -> Any:
    pipeline = kind()
    pipeline.add_component("examples", DemonstrationDocuments(retriever, task="questions", k=3))
    pipeline.add_component("prompt", PromptBuilder(TEMPLATE, required_variables="*"))
    pipeline.connect("examples.documents", "prompt.documents")
    return pipeline


RUN = {"examples": {"query": QUESTION}, "prompt": {"question": QUESTION}}


def test_a_pipeline_shows_the_retrieved_demonstrations_in_order(retriever: Retriever) -> None:
    best = retriever.retrieve("questions", QUESTION, 3)
    expected = "\n\n".join([*(each.text for each in reversed(best)), f"Question: {QUESTION}\nAnswer type:"])
    assert prompting(retriever).run(RUN)["prompt"]["prompt"] == expected
    assert asyncio.run(prompting(retriever, AsyncPipeline).run_async(RUN))["prompt"]["prompt"] == expected


def test_a_document_has_all_of_the_demonstration(retriever: Retriever) -> None:
    fields = {"thing": "lamp", "text": "works every day"}
    (document,) = DemonstrationDocuments(retriever, task="reviews", k=1, min_similarity=0.1).run(fields)["documents"]
    (best,) = retriever.retrieve("reviews", fields, 1)
    assert (document.id, document.content, document.score) == (f"reviews/{best.id}", best.text, best.similarity)
    assert document.meta == {
        **{"id": best.id, "task": "reviews", "fields": dict(best.input), "target": best.target},
        "metadata": dict(best.metadata),
    }


def test_a_saved_component_has_the_place_of_its_source_and_no_key() -> None:
    client = AsyncClient("http://127.0.0.1:1", api_key="udr_secret")
    saved = DemonstrationDocuments(client, task="notes", k=2, order="shuffle", distinct=0.9).to_dict()
    assert saved["type"] == "udr.integrations.haystack.DemonstrationDocuments"
    assert saved["init_parameters"] == {
        **{"source": {"url": "http://127.0.0.1:1", "asynchronous": True}, "task": "notes", "k": 2},
        **{"order": "shuffle", "distinct": 0.9},
    }
    assert DemonstrationDocuments.from_dict(saved).to_dict() == saved


def test_the_place_is_the_index_directory_the_url_of_a_remote_one_or_none_of_a_version_alone(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec", reason="needs the extra remote")
    monkeypatch.setenv("UDR_CACHE", str(tmp_path / "cache"))
    url = f"memory://{tmp_path.name}/index"
    upload(index, "CURRENT", url)
    alone = tmp_path / open_version(index).path.name
    shutil.copytree(open_version(index).path, alone)

    def place(retriever: Retriever) -> Any:
        with retriever:
            return DemonstrationDocuments(retriever, task="notes").to_dict()["init_parameters"]["source"]

    version = IndexVersion(alone, read_manifest(alone))
    assert place(Retriever.open(index, encoder=HashEncoder())) == {"index": str(index.resolve())}
    assert place(Retriever.open(url, encoder=HashEncoder())) == {"index": url}
    assert place(Retriever.of_version(version, encoder=HashEncoder())) is None


def test_a_pipeline_with_a_filter_is_saved_as_text_and_asks_for_the_default_k_again() -> None:
    pipeline, narrowed = Pipeline(), Filter.of("stars >= 3")
    client = Client("http://127.0.0.1:1")
    pipeline.add_component("examples", DemonstrationDocuments(client, task="notes", filter=narrowed, exclude=("a",)))
    assert "stars" in pipeline.dumps()
    saved = pipeline.to_dict()["components"]["examples"]
    assert saved["init_parameters"] == {
        **{"source": {"url": "http://127.0.0.1:1", "asynchronous": False}, "task": "notes", "order": "nearest_last"},
        **{"filter": narrowed.to_json(), "exclude": ["a"]},
    }
    assert DemonstrationDocuments.from_dict(saved).to_dict() == saved


def test_errors_are_udr_s(retriever: Retriever) -> None:
    with pytest.raises(InvalidInputError, match="give each field by name"):
        DemonstrationDocuments(retriever, task="reviews").run("text")
    with pytest.raises(ConfigError, match="unknown option 'nearest'"):
        DemonstrationDocuments(retriever, task="notes", nearest=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="can only be awaited"):
        DemonstrationDocuments(AsyncClient("http://127.0.0.1:1"), task="notes").run("text")
