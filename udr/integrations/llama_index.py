"""LlamaIndex: a retriever whose nodes are demonstrations, which also fills the examples of a prompt template."""

from typing import Unpack

from udr.data import formatting
from udr.errors import MissingExtraError
from udr.integrations.selector import Selector, described
from udr.prompts import Order
from udr.retrieval import DEFAULT_K, AsyncDemonstrationSource, RetrievedDemonstration, SelectionOptions
from udr.types import Value

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise MissingExtraError("llama-index-core", "llama-index") from error


class DemonstrationNodes(BaseRetriever):
    """Retrieves a task's demonstrations: LlamaIndex's ``BaseRetriever``.

    A node's text is the demonstration as udr's prompts show it, its score the similarity, and its metadata has the
    input's ``fields``, the ``target``, the ``task`` and the row's ``id`` and ``metadata``.

    Args:
        source: a ``Retriever`` or a ``Client``; an ``AsyncClient`` supports only ``aretrieve``.
        task: the task of the demonstrations; LlamaIndex's queries are text, so it must have one field to be retrieved
            by ``retrieve``.
        k: how many.
        order: ``nearest_last`` (next to the query, as in udr's own prompts), or another of ``udr.prompts.Order``.
        options: how demonstrations are chosen, see ``udr.RetrievalRequest``.

    Raises:
        InvalidInputError: an unknown order.
        ConfigError: an unknown option.
    """

    def __init__(
        self,
        source: AsyncDemonstrationSource,
        task: str,
        k: int = DEFAULT_K,
        *,
        order: Order | str = Order.NEAREST_LAST,
        **options: Unpack[SelectionOptions],
    ) -> None:
        self._selector = Selector(source=source, task=task, k=k, order=order, options=options)
        super().__init__()

    def examples(self, **fields: Value) -> str:
        """Return the demonstrations for a query's fields as one text.

        For ``PromptTemplate(..., function_mappings={"examples": nodes.examples})``, whose variables are the fields.

        Raises:
            InvalidInputError: the variables are not the task's fields.
            TypeError: the source is asynchronous.
            UdrError: the source cannot answer.
        """
        return formatting.SEPARATOR.join(each.text for each in self._selector.select(fields))

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return list(map(_node, self._selector.select(query_bundle.query_str)))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return list(map(_node, await self._selector.aselect(query_bundle.query_str)))


def _node(demonstration: RetrievedDemonstration) -> NodeWithScore:
    metadata = described(demonstration)
    # The text says all that a language model or an encoder should read.
    hidden = list(metadata)
    node = TextNode(
        id_=f"{demonstration.task}/{demonstration.id}",
        text=demonstration.text,
        metadata=metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
    )
    return NodeWithScore(node=node, score=demonstration.similarity)
