"""The retriever: an encoder and an index, from a query to its nearest demonstrations."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, Unpack

import numpy as np

from udr.data import Task, TaskFamily
from udr.errors import ModelError, RequestError, UnknownTaskError, VerificationError
from udr.models import Encoder, SentenceEncoder
from udr.retrieval.executor import choices
from udr.retrieval.partitions import Partitions
from udr.retrieval.plan import MAX_CHARACTERS, Plan, plan, unknown
from udr.retrieval.source import DemonstrationSource
from udr.retrieval.types import Retrieval, RetrievalOptions, RetrievalRequest
from udr.search import Searcher, Vectors
from udr.store import IndexVersion, open_lexical, open_searchers, open_version, verify_version
from udr.types import Fields, Role, Row


class Retriever(DemonstrationSource):
    """Answers requests from one version of an index. May be used by several threads.

    ``Retriever.open`` makes one from an index directory; the constructor takes the parts.

    Args:
        version: the index version.
        encoder: the encoder that made it.
        searchers: one over each partition's vectors, by task.

    Attributes:
        encoder: the encoder.
        path: the folder of the index version.
        index_version: its name, 16 hex digits.
        model: the encoder's name, as it was asked for when the index was built.
        tokenizer: what ``udr.load_tokenizer`` loads the encoder's tokenizer by.
        tasks: the tasks, by name.
        families: the task families, by name.
        sizes: how many demonstrations each task has.
        max_characters: the most characters that a query's worded input may have.

    Raises:
        ArtifactError: the encoder is not the one that made the index.
    """

    def __init__(self, version: IndexVersion, encoder: Encoder, searchers: Mapping[str, Searcher]) -> None:
        manifest = version.manifest
        manifest.encoder.check(encoder)
        self.encoder = encoder
        self.path = version.path
        self.index_version = manifest.version
        self.model = manifest.encoder.name
        self.tokenizer = version.model
        self.tasks: Mapping[str, Task] = MappingProxyType({n: part.task for n, part in manifest.partitions.items()})
        self.families: Mapping[str, TaskFamily] = MappingProxyType(dict(manifest.families))
        self.sizes: Mapping[str, int] = MappingProxyType({n: part.count for n, part in manifest.partitions.items()})
        self.max_characters = MAX_CHARACTERS
        self._manifest = manifest
        self._partitions = Partitions(self.tasks, searchers, open_lexical(version), version.demonstrations())
        # Tokenizers refuse to be used by two threads at once.
        self._encoding = threading.Lock()

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        device: str | None = None,
        encoder: Encoder | None = None,
        fp16: bool = False,
        verify: bool = True,
    ) -> Self:
        """Open the version of an index that its ``CURRENT`` names.

        Args:
            path: the index directory.
            device: where the encoder runs: ``cpu``, ``cuda``, ...; None takes the best there is. One that is named
                ``cuda`` searches too.
            encoder: an encoder that is loaded already; None loads the one that the index was built by.
            fp16: search a GPU's flat partitions in half the memory.
            verify: compare every file with its checksum first, about a second a gigabyte; False compares sizes.

        Raises:
            ArtifactError: there is no index, or it was made by another format, wording or encoder.
            VerificationError: a file is not what the manifest says.
            ModelError: the index's encoder cannot be loaded.
            MissingExtraError: faiss or sentence-transformers is not installed.
        """
        return cls.of_version(open_version(Path(path)), device=device, encoder=encoder, fp16=fp16, verify=verify)

    @classmethod
    def of_version(
        cls,
        version: IndexVersion,
        *,
        device: str | None = None,
        encoder: Encoder | None = None,
        fp16: bool = False,
        verify: bool = True,
    ) -> Self:
        """Open a version of an index, whether ``CURRENT`` names it or not; see ``open``."""
        if verify:
            refuse_damage(version)
        if encoder is None:
            encoder = SentenceEncoder.load(version.model, device=device)
        return cls(version, encoder, open_searchers(version, device, fp16=fp16))

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return the k nearest demonstrations; ``RetrievalRequest`` says what the arguments mean.

        The query itself, and copies of it, never come back.

        Raises:
            UnknownTaskError: the index has no such task or family.
            InvalidInputError: the input does not fit the task, k is out of range, ...
            TooLongError: the input has more than ``max_characters`` characters.
        """
        (answer,) = self.answer([RetrievalRequest.of(task, input, k, options)])
        if isinstance(answer, RequestError):
            raise answer
        return answer

    def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Answer several requests, encoded together.

        The answers are those of single calls, as far as the encoder gives a text the same vector in any company;
        a real one differs in the last bits, which can show in a similarity's fifth decimal.

        Raises:
            RequestError: the first request that cannot be answered; the message gives its place, from 1.
        """
        retrievals: list[Retrieval] = []
        for place, answer in enumerate(self.answer(requests), start=1):
            if isinstance(answer, RequestError):
                raise type(answer)(f"request {place}: {answer}") from answer
            retrievals.append(answer)
        return retrievals

    def answer(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval | RequestError]:
        """Answer several requests, encoded together; one that cannot be answered leaves the others alone."""
        plans = [self._plan(request) for request in requests]
        fit = [one for one in plans if isinstance(one, Plan)]
        encoded = [place for place, one in enumerate(fit) if one.encoded]
        vectors = self.encode([fit[place].text for place in encoded])
        retrievals = iter(self.search(fit, dict(zip(encoded, vectors, strict=True))))
        return [next(retrievals) if isinstance(one, Plan) else one for one in plans]

    def plan(self, request: RetrievalRequest) -> Plan:
        """Return what answering a request takes, checked against the index; the first of three steps.

        Raises:
            RequestError: it cannot be answered.
        """
        return plan(self._manifest, request)

    def encode(self, texts: Sequence[str], role: Role = "query") -> Vectors:
        """Return the vectors of texts, float32 [len(texts), dimension]; the second step, for the plans' texts.

        Args:
            texts: what the encoder reads.
            role: what it reads them as.

        Raises:
            ModelError: the encoder gave what no search could use.
        """
        if not texts:
            return np.zeros((0, self.encoder.dimension), dtype=np.float32)
        encode = self.encoder.encode_queries if role == "query" else self.encoder.encode_demonstrations
        with self._encoding:
            vectors = encode(texts)
        if not np.isfinite(vectors).all():
            # An engine would answer nonsense for these, without a word.
            raise ModelError(f"encoder {self.model!r} gave numbers that are not finite")
        return vectors

    def search(self, plans: Sequence[Plan], vectors: Mapping[int, Vectors]) -> list[Retrieval]:
        """Return the answers, in order; the last step.

        Args:
            plans: what this retriever planned.
            vectors: those of the queries that are encoded, float32 [dimension], by place in ``plans``.
        """
        chosen = choices(self._partitions, plans, vectors)
        shown = self._partitions.demonstrations([choice.hits for choice in chosen])
        return [
            Retrieval(
                demonstrations=demonstrations,
                index_version=self.index_version,
                model=self.model,
                decisions=choice.decisions,
            )
            for choice, demonstrations in zip(chosen, shown, strict=True)
        ]

    def demonstration(self, task: str, id: str) -> Row:
        """Return one row.

        Raises:
            UnknownTaskError: there is no such task, or it has no such row.
        """
        if task not in self.tasks:
            raise unknown("task", task, self.tasks)
        row = self._partitions.row(task, id)
        if row is None:
            raise UnknownTaskError(f"task {task!r} has no demonstration {id!r}")
        return row

    def close(self) -> None:
        """Close the files; the retriever is of no use after that."""
        self._partitions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _plan(self, request: RetrievalRequest) -> Plan | RequestError:
        try:
            return self.plan(request)
        except RequestError as error:
            return error


def refuse_damage(version: IndexVersion) -> None:
    """Compare every file of a version with its checksum.

    Raises:
        VerificationError: a file is not what the manifest says; the message names the first.
    """
    findings = verify_version(version.path)
    if findings:
        first, more = findings[0], f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise VerificationError(f"{version.path / first.path}: {first.problem}{more}; run: udr index verify")
