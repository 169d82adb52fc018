"""Opening the retriever that a name means."""

from udr_training.evaluation.retrievers.compared import ComparedRetriever, RandomRetriever
from udr_training.evaluation.retrievers.names import RANDOM, index_of, is_service
from udr_training.evaluation.retrievers.options import RetrieverName, parse_name
from udr_training.evaluation.retrievers.searching import LocalRetriever
from udr_training.evaluation.retrievers.service import ServiceRetriever
from udr_training.evaluation.retrievers.sources import IndexSource, PoolSource


def open_retriever(name: str | RetrieverName, seed: int = 0, processes: int = 1) -> ComparedRetriever:
    """Return the retriever of a name, for any but the oracle's; encoders and indexes are opened now.

    Args:
        name: ``random``, a mode (``dense``, ``bm25``, ``hybrid``: by the default encoder), an encoder, a run directory,
            an index directory, or the URL of a service; with options, see ``parse_name``.
        seed: of random choices.
        processes: of this machine, which share the encoding of a large pool.

    Raises:
        ConfigError: an option is invalid, or the run is not finished.
        ModelError: there is no encoder of that name.
        ArtifactError: the index cannot be opened.
        ServiceError: there is no service at the URL.
    """
    parsed = parse_name(name) if isinstance(name, str) else name
    if parsed.source == RANDOM:
        return RandomRetriever(seed)
    if is_service(parsed.source):
        return ServiceRetriever(parsed, seed)
    index = index_of(parsed.source)
    return LocalRetriever(parsed, PoolSource(parsed, processes) if index is None else IndexSource(index), seed)
