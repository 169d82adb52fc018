"""The retriever: an encoder and an index, from a query to its nearest demonstrations."""

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Self, Unpack

import numpy as np

from udr.data import Filter, FilterLike, Task, TaskFamily
from udr.errors import ConfigError, ModelError, RequestError, UnknownTaskError
from udr.models import Encoder, SentenceEncoder, check_engine, load_encoder
from udr.retrieval.executor import choices
from udr.retrieval.partitions import Partitions
from udr.retrieval.plan import EVEN, MAX_CHARACTERS, Plan, make_plan, planning_characters, unknown
from udr.retrieval.source import DemonstrationSource
from udr.retrieval.stopping import Stopped, never
from udr.retrieval.types import DEFAULT_K, Retrieval, RetrievalOptions, RetrievalRequest, Scale
from udr.retrieval.writing import Draft, Drafting, Page, RowLike, asked_to_delete, deletion, page, with_key
from udr.search import PASSES, Searcher, Vectors
from udr.store import (
    VERSIONS,
    FileStamp,
    IndexVersion,
    encoder_name,
    exported_encoder,
    local_index,
    open_lexical,
    open_searchers,
    open_version,
    read_manifest,
    read_weights,
    refuse_damage,
    with_label_heads,
)
from udr.store.live import Base, Change, Durability, LivePool, Outcome, View, WriterLock
from udr.types import Fields, Json, Role, Row

_LOG = logging.getLogger(__name__)

# Bytes that take seconds to check.
_LARGE = 500_000_000

_Reopening = tuple[Path, str | None, str | None, bool, bool]
"""The version's folder, and the device, engine, fp16 and allow_hub that it was opened with."""

_SCALES: Mapping[str, Scale] = {"bm25": "bm25", "hybrid": "reciprocal_ranks"}


class Retriever(DemonstrationSource):
    """Retrieves demonstrations from one version of an index; thread-safe.

    ``Retriever.open`` opens an index directory; the constructor takes the parts: a version, the encoder that built it,
    and by task a searcher over each partition's vectors. A copy is the same retriever; a pickle opens the same version
    again where it is loaded.

    Attributes:
        encoder: the encoder.
        path: the folder of the index version.
        root: the index directory; None if the version is in none.
        index_version: its name, 16 hex digits.
        model: the encoder's name as given when the index was built.
        tokenizer: the name that ``udr.load_tokenizer`` loads the encoder's tokenizer by.
        families: the task families, by name.
        weights: how much the encoder's ranking counts in mode ``hybrid``, by task, where the index keeps that.
        encoder_passes: how many texts the encoder reads for a query of each task: 1, and 2 more if its label head reads
            two fields apart.
        lexical: the tasks that have BM25, which the modes bm25 and hybrid, and coverage, need.
        files: the size and checksum of each file of the version, by its path there.
        max_characters: the maximum length of a query's formatted input.

    Raises:
        ArtifactError: the index was built by another encoder.
    """

    def __init__(
        self,
        version: IndexVersion,
        encoder: Encoder,
        searchers: Mapping[str, Searcher],
        *,
        take_lock: Callable[[], object] | None = None,
        durability: Durability = "disk",
    ) -> None:
        manifest = version.manifest
        manifest.encoder.check(encoder)
        self.encoder = encoder
        self.path = version.path
        self.index_version = manifest.version
        self.model = manifest.encoder.name
        # The encoder's own name is the caller's, unlike the manifest's.
        self.tokenizer = version.tokenizer or encoder.name
        self._tasks: Mapping[str, Task] = MappingProxyType({n: part.task for n, part in manifest.partitions.items()})
        self.families: Mapping[str, TaskFamily] = MappingProxyType(dict(manifest.families))
        self.weights: Mapping[str, float] = MappingProxyType(read_weights(version.path, manifest))
        self.encoder_passes: Mapping[str, int] = MappingProxyType(
            {
                name: 1 + (PASSES if part.label_head and part.label_head.fields else 0)
                for name, part in manifest.partitions.items()
            }
        )
        self.lexical = frozenset(name for name, part in manifest.partitions.items() if part.lexical)
        self.files: Mapping[str, FileStamp] = MappingProxyType(dict(manifest.files))
        self.max_characters = MAX_CHARACTERS
        self._manifest = manifest
        searchers = with_label_heads(version, searchers)
        # Tokenizers are not thread-safe.
        self._encoding = threading.Lock()
        self._process = os.getpid()
        base = Base(manifest, self._tasks, searchers, open_lexical(version), version.demonstrations())
        self.root = version.path.parent.parent if version.path.parent.name == VERSIONS else None
        self._lock = WriterLock(self.root or version.path)
        encode = partial(self.encode, role="demonstration")
        self._pool = LivePool(self.root, base, encode, take_lock or self._lock.take, durability)
        self._partitions, self._drafting = Partitions(self._pool.view()), Drafting(version)
        self._reopen: _Reopening | None = None

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        device: str | None = None,
        engine: str | None = None,
        encoder: Encoder | None = None,
        fp16: bool = False,
        verify: bool = True,
        allow_hub: bool = False,
        durability: Durability = "disk",
    ) -> Self:
        """Open the current version of an index.

        Args:
            path: the index directory, or its URL on a remote store, whose current version is copied to this machine.
            device: where the encoder runs: ``cpu``, ``cuda``, ...; None chooses the best available. An explicit
                ``cuda`` searches on the GPU, too.
            engine: what encodes queries, one of ``udr.models.Engine``. None is ONNX Runtime in float32 if the encoder
                runs on the CPU and the index carries it, else torch in float32.
            encoder: a loaded encoder, whatever the engine; None loads the one that built the index.
            fp16: search flat partitions on a GPU in half the memory.
            verify: check every file's checksum first, about a second per gigabyte; False checks only sizes.
            allow_hub: load the encoder from the Hugging Face hub if the index names it there; see ``docs/trust.md``.
            durability: when a write returns: once it is on ``disk``, or once the operating ``system`` has it.

        Raises:
            ArtifactError: there is no index, or it has another format, wording or encoder.
            VerificationError: a file differs from the manifest.
            ModelError: the index's encoder cannot be loaded.
            ConfigError: there is no such engine, or not for this device or index.
            MissingExtraError: faiss, sentence-transformers or the engine is not installed.
        """
        return cls.of_version(
            open_version(local_index(path)),
            device=device,
            engine=engine,
            encoder=encoder,
            fp16=fp16,
            verify=verify,
            allow_hub=allow_hub,
            durability=durability,
        )

    @classmethod
    def of_version(
        cls,
        version: IndexVersion,
        *,
        device: str | None = None,
        engine: str | None = None,
        encoder: Encoder | None = None,
        fp16: bool = False,
        verify: bool = True,
        allow_hub: bool = False,
        take_lock: Callable[[], object] | None = None,
        durability: Durability = "disk",
    ) -> Self:
        """Open a version of an index, whether current or not; see ``open``.

        ``take_lock`` takes the lock of the writer, if several retrievers of this process share it.
        """
        check_engine(engine)
        if verify:
            if sum(stamp.size for stamp in version.manifest.files.values()) > _LARGE:
                _LOG.info("checking the files of %s...", version.path)
            refuse_damage(version.path)
        loaded = encoder or exported_encoder(version, device, engine)
        if loaded is None:
            name = encoder_name(version, allow_hub=allow_hub)
            loaded = SentenceEncoder.load(name, device) if engine is None else load_encoder(name, device, engine)
        searchers = open_searchers(version, device, fp16=fp16)
        retriever = cls(version, loaded, searchers, take_lock=take_lock, durability=durability)
        retriever._reopen = (version.path.resolve(), device, engine, fp16, allow_hub) if encoder is None else None
        return retriever

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks, by name."""
        return self._tasks

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = DEFAULT_K,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return the k nearest demonstrations; ``RetrievalRequest`` documents the arguments.

        Raises:
            UnknownTaskError: the index has no such task or family.
            InvalidInputError: the input does not fit the task, k is out of range, ...
            TooLongError: the input has more than ``max_characters`` characters.
        """
        (result,) = self.answer([RetrievalRequest.of(task, input, k, options)])
        if isinstance(result, RequestError):
            raise result
        return result

    def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Return the results of several requests, encoded together.

        They equal those of single calls if the encoder's vectors do not depend on the batch. A real encoder's differ
        in the last bits, which can affect the fifth decimal of a similarity.

        Raises:
            RequestError: a request is invalid; the message gives the number of the first, from 1.
        """
        retrievals: list[Retrieval] = []
        for number, result in enumerate(self.answer(requests), start=1):
            if isinstance(result, RequestError):
                raise type(result)(f"request {number}: {result}") from result
            retrievals.append(result)
        return retrievals

    def answer(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval | RequestError]:
        """Return the results of several requests, encoded together; an invalid one gives its error."""
        plans: list[Plan | RequestError] = []
        partitions = self.partitions()
        for request in requests:
            try:
                plans.append(self.plan(request, partitions=partitions))
            except RequestError as error:
                plans.append(error)
        valid = [result for result in plans if isinstance(result, Plan)]
        read = self.encode_each({index: plan.query_texts for index, plan in enumerate(valid) if plan.encoded})
        copies = {index: [plan.copy_text] for index, plan in enumerate(valid) if plan.copy_text is not None}
        near = {index: own[0] for index, own in self.encode_each(copies, "demonstration").items()}
        vectors = {index: own[0] for index, own in read.items()}
        fields = {index: own[1:] for index, own in read.items() if len(own) > 1}
        retrievals = iter(self.search(valid, vectors, near, fields))
        return [next(retrievals) if isinstance(result, Plan) else result for result in plans]

    def planning_characters(self, request: RetrievalRequest) -> int:
        """Return about how many characters ``plan`` will read: those of the input, by each task; at no cost.

        It tells whether to plan at once or in a thread, and raises nothing, even if the request is invalid.
        """
        return planning_characters(self._manifest, request)

    def searched(self, request: RetrievalRequest) -> list[str]:
        """Return the tasks that a request searches; none if it names one that is not there."""
        if request.task is not None:
            return [request.task] if request.task in self.tasks else []
        return [name for name, task in self.tasks.items() if request.family in (None, task.family)]

    def partitions(self) -> Partitions:
        """Return what a request that starts now sees: the published rows, with every write that is acknowledged."""
        return self._of(self._pool.view())

    def at_hand(self) -> Partitions | None:
        """Return what ``partitions`` returns, or None if writes must be read first; takes one call of the system."""
        view = self._pool.at_hand()
        return None if view is None else self._of(view)

    def plan(
        self,
        request: RetrievalRequest,
        *,
        stopped: Stopped = never,
        partitions: Partitions | None = None,
        within: Filter | None = None,
    ) -> Plan:
        """Return the plan for a request, checked against the index; the first of three steps.

        Args:
            request: the request.
            stopped: whether nobody waits for the plan any more; looked at between tasks.
            partitions: what it sees, if several are to see the same; by default what one that starts now sees.
            within: a filter of the only rows that it sees, for a tenant.

        Raises:
            RequestError: the request is invalid.
            StoppedError: nobody waits for the plan any more.
            ConfigError: this process is a fork of the one that opened the retriever.
        """
        self._refuse_fork()
        partitions = partitions or self.partitions()
        checked = partitions.seen(make_plan(self._manifest, request, stopped, partitions.view.sizes), within)
        weight = request.weight if request.weight is not None else self.weights.get(request.task or "", EVEN)
        return replace(checked, row_bytes=partitions.row_bytes(checked), weight=weight)

    def encode(self, texts: Sequence[str], role: Role = "query") -> Vectors:
        """Return the vectors of texts, float32 [len(texts), dimension]; the second step, for the texts of plans.

        Args:
            texts: what the encoder reads.
            role: whether they are queries or demonstrations.

        Raises:
            ModelError: the encoder returned NaN or infinity.
        """
        if not texts:
            return np.zeros((0, self.encoder.dimension), dtype=np.float32)
        encode = self.encoder.encode_queries if role == "query" else self.encoder.encode_demonstrations
        with self._encoding:
            vectors = encode(texts)
        if not np.isfinite(vectors).all():
            # Search engines would silently return nonsense.
            raise ModelError(f"encoder {self.model!r} returned numbers that are not finite")
        return vectors

    def encode_each(self, texts: Mapping[int, Sequence[str]], role: Role = "query") -> dict[int, Vectors]:
        """Return the vectors of several texts by each key, float32 [num_texts, dimension], all encoded at once.

        See ``encode``.
        """
        ends = list(accumulate(map(len, texts.values())))
        vectors = self.encode([text for own in texts.values() for text in own], role)
        return dict(zip(texts, np.split(vectors, ends[:-1]), strict=True)) if texts else {}

    def search(
        self,
        plans: Sequence[Plan],
        vectors: Mapping[int, Vectors],
        copies: Mapping[int, Vectors] | None = None,
        fields: Mapping[int, Vectors] | None = None,
        *,
        stopped: Callable[[int], bool] = lambda number: False,
    ) -> list[Retrieval]:
        """Return the results of plans, in order; the last step.

        Args:
            plans: plans of this retriever.
            vectors: query vectors of the encoded plans, float32 [dimension], by index in ``plans``.
            copies: vectors of the queries as demonstrations, likewise; for plans with a ``copy_text``.
            fields: vectors of their fields, float32 [num_fields, dimension], likewise; for plans with ``field_texts``.
            stopped: whether nobody waits for the result of a plan any more, by index in ``plans``; its result is then
                empty, and those of the others are as without it. It is called often, in loops, so it must be fast.
        """
        results: dict[int, Retrieval] = {}
        for partitions, numbers in _by_partitions(plans, self._partitions):
            some = [plans[number] for number in numbers]
            own, near, apart = (
                {place: given[number] for place, number in enumerate(numbers) if number in given}
                for given in (vectors, copies or {}, fields or {})
            )
            chosen = choices(partitions, some, own, near, apart, partial(_stopped_at, stopped, numbers))
            found = partitions.demonstrations([choice.hits for choice in chosen])
            for number, plan, choice, demonstrations in zip(numbers, some, chosen, found, strict=True):
                results[number] = Retrieval(
                    demonstrations=demonstrations,
                    index_version=self.index_version,
                    overlay_position=partitions.view.position,
                    model=self.model,
                    scale=_SCALES.get(plan.request.mode, self.encoder.metric),
                    copies=choice.copies,
                    k=plan.request.k if plan.request.fill else None,
                    decisions=choice.decisions,
                )
        return [results[number] for number in range(len(plans))]

    def demonstration(self, task: str, id: str) -> Row:
        """Return one row.

        Raises:
            UnknownTaskError: there is no such task, or it has no such row.
        """
        view = self._view_of(task)
        row = view.row(task, id)
        if row is None:
            raise UnknownTaskError(f"task {task!r} has no demonstration {id!r}")
        return row

    def demonstrations(
        self,
        task: str,
        *,
        after: str | None = None,
        limit: int = 100,
        filter: FilterLike | None = None,
        within: Filter | None = None,
    ) -> Page:
        """Return a page of a task's rows in the order of their ids.

        Args:
            task: the task.
            after: the ``next`` of the page before; None for the first.
            limit: how many rows, at most 1,000.
            filter: which rows to list.
            within: as in ``plan``.

        Raises:
            UnknownTaskError: there is no such task.
            InvalidInputError: ``after`` is of another list or version, the limit is out of range, or the filter is not
                one.
        """
        wanted = None if filter is None else Filter.of(filter)
        return page(self._view_of(task), task, after, limit, wanted, within)

    def put(
        self,
        task: str,
        rows: RowLike | Sequence[RowLike],
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Put rows into a task's pool, all or none: new ones are added, others replaced by their ids.

        They are on disk, and found by every later request, when this returns. See ``docs/live-pools.md``.

        Args:
            task: the task.
            rows: one row or several.
            if_match: the version (``row_version``) that the row must have now; ``*`` for any.
            idempotency_key: a text; a repeated call with it does nothing, and returns the outcome of the first.

        Raises:
            UnknownTaskError: there is no such task.
            InvalidInputError: a row does not fit the task, or the key was used for other rows.
            ConflictError: the row has another version.
            NotWriterError: another process writes to this index.
            StorageError: the disk is full or fails; nothing was written.
        """
        change = Change(task, if_match=if_match)
        draft = self.draft(change, rows, idempotency_key)
        return self.write(draft.complete(self.encode(draft.texts, "demonstration")))

    def delete(
        self,
        task: str,
        ids: str | Sequence[str] | None = None,
        *,
        filter: FilterLike | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Delete rows of a task's pool by id, or those that pass a filter; ids that are not there are ignored.

        Arguments and errors are those of ``put``. No later request finds the rows when this returns.
        """
        self._view_of(task)
        change = deletion(Change(task, if_match=if_match), ids, filter)
        return self.write(with_key(change, idempotency_key, [task, asked_to_delete(change)]))

    def draft(self, change: Change, rows: RowLike | Sequence[RowLike], idempotency_key: str | None = None) -> Draft:
        """Return the draft of a change that puts rows: the first step of ``put``, if another encodes its texts."""
        draft = self._drafting.put(self._view_of(change.task), change, rows)
        rows_asked = [row.to_json() for row in draft.change.rows]
        asked: Json = [change.task, rows_asked, asked_to_delete(change), change.if_match]
        return replace(draft, change=with_key(draft.change, idempotency_key, asked))

    def write(self, change: Change) -> Outcome:
        """Write a change; the last step of ``put`` and ``delete``, whose errors it raises."""
        return self._pool.write(change)

    def unread_fields(self, wanted: Filter, tasks: Iterable[str]) -> Mapping[str, frozenset[str]]:
        """Return which fields of these tasks must be read before a filter can be answered, by task; at no cost.

        Without ``read_fields``, the first request that names them reads them, which takes seconds in a large pool.
        """
        return self._pool.base.matcher.unread(wanted, [task for task in tasks if task in self.tasks])

    def read_fields(self, fields: Mapping[str, Collection[str]]) -> None:
        """Read fields of all rows of each task, for filters.

        Raises:
            ArtifactError: the rows cannot be read.
        """
        self._pool.base.matcher.read({task: keys for task, keys in fields.items() if task in self.tasks})

    @property
    def fields_read(self) -> Mapping[str, frozenset[str]]:
        """Which fields of each task are read, for filters."""
        return self._pool.base.matcher.fields

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many demonstrations each task has, with what was written since the version was built."""
        return MappingProxyType(self._pool.view().sizes)

    @property
    def overlay_position(self) -> int:
        """The number of the last write that the next request sees; 0 before the first."""
        return self._pool.view().position

    @property
    def overlay_rows(self) -> int:
        """How many rows were put or deleted since the version was built, each counted once."""
        return self._pool.view().num_changes

    def shorten_log(self) -> None:
        """Rewrite the log of writes without those that later ones undid; raises as ``write``."""
        self._pool.shorten()

    def close(self) -> None:
        """Close the files; the retriever cannot be used afterwards."""
        self._pool.close()
        self._lock.close()

    def _of(self, view: View) -> Partitions:
        partitions = self._partitions
        if partitions.view is not view:
            self._partitions = partitions = Partitions(view)
        return partitions

    def _view_of(self, task: str) -> View:
        self._refuse_fork()
        if task not in self.tasks:
            raise unknown("task", task, self.tasks)
        return self.partitions().view

    def _refuse_fork(self) -> None:
        # The threads of torch and faiss do not exist in a fork, which would wait for them for ever.
        if self._process != os.getpid():
            raise ConfigError(
                f"this Retriever was opened in process {self._process}, of which process {os.getpid()} is a fork; "
                "open the index in each process, or start processes with the method 'spawn'"
            )

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., "Retriever"], _Reopening]:
        if self._reopen is None:
            raise TypeError(
                "a Retriever whose encoder was given to it cannot be pickled; open the index where it is used"
            )
        return _reopened, self._reopen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _reopened(path: Path, device: str | None, engine: str | None, fp16: bool, allow_hub: bool) -> Retriever:
    version = IndexVersion(path, read_manifest(path))
    return Retriever.of_version(version, device=device, engine=engine, fp16=fp16, verify=False, allow_hub=allow_hub)


def _by_partitions(plans: Sequence[Plan], latest: Partitions) -> Iterator[tuple[Partitions, list[int]]]:
    """Yield what plans are to be searched in, with the plans' numbers: all in one, unless something was written."""
    numbers: dict[Partitions, list[int]] = {}
    for number, plan in enumerate(plans):
        numbers.setdefault(plan.partitions or latest, []).append(number)
    yield from numbers.items()


def _stopped_at(stopped: Callable[[int], bool], numbers: Sequence[int], place: int) -> bool:
    return stopped(numbers[place])
