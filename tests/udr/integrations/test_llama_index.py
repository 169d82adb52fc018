"""The retriever in LlamaIndex's own prompts."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="needs llama-index-core: pip install 'udr-icl[llama-index]'")

from llama_index.core import PromptTemplate
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import MetadataMode

from udr.client import AsyncClient
from udr.errors import InvalidInputError
from udr.integrations import DemonstrationNodes
from udr.retrieval import Retriever

QUESTION = "Where is the old castle?"


def test_nodes_are_the_retrieved_demonstrations_in_order(retriever: Retriever) -> None:
    nodes = DemonstrationNodes(retriever, task="questions", k=3)
    assert isinstance(nodes, BaseRetriever)
    best = retriever.retrieve("questions", QUESTION, 3)[::-1]
    found = nodes.retrieve(QUESTION)
    assert [(each.node_id, each.score) for each in found] == [(f"questions/{d.id}", d.similarity) for d in best]
    assert [each.node.get_content(MetadataMode.LLM) for each in found] == [d.text for d in best]
    assert found[0].metadata["target"] == best[0].target and found[0].metadata["fields"] == dict(best[0].input)
    again = asyncio.run(nodes.aretrieve(QUESTION))
    assert [each.node_id for each in again] == [each.node_id for each in found]


def test_a_template_s_variables_are_the_query(retriever: Retriever) -> None:
    nodes = DemonstrationNodes(retriever, task="reviews", k=2)
    template = PromptTemplate(
        "{examples}\n\nThing: {thing}\nReview: {text}\nMood:", function_mappings={"examples": nodes.examples}
    )
    fields: dict[str, Any] = {"thing": "lamp", "text": "works every day"}
    best = retriever.retrieve("reviews", fields, 2)
    shown = [best[1].text, best[0].text, "Thing: lamp\nReview: works every day\nMood:"]
    assert template.format(**fields) == "\n\n".join(shown)


def test_errors_are_udr_s(retriever: Retriever) -> None:
    with pytest.raises(InvalidInputError, match="give each field by name"):
        DemonstrationNodes(retriever, task="reviews").retrieve("text")
    with pytest.raises(TypeError, match="can only be awaited"):
        DemonstrationNodes(AsyncClient("http://127.0.0.1:1"), task="notes").retrieve("text")
