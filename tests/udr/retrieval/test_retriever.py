"""The retriever against brute force, and every invalid request."""

import gc
import os
import tracemalloc
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, HashEncoder
from tests.udr.retrieval.conftest import OpenPools, note
from udr.data import (
    ALL_INSTRUCTION,
    Condition,
    Range,
    encoder_demonstration,
    encoder_query,
    input_text,
    open_collection,
)
from udr.errors import (
    ArtifactError,
    ConfigError,
    InvalidInputError,
    ModelError,
    RequestError,
    TooLongError,
    UnknownTaskError,
    VerificationError,
)
from udr.retrieval import RetrievalRequest, Retriever, unknown
from udr.search import Vectors, float16_proposer
from udr.store import open_version
from udr.store.live import Change
from udr.types import Row, TokenCount

SCOPES: list[dict[str, Any]] = [{"task": "questions"}, {"task": "notes"}, {"family": "mood"}, {"scope": "all"}]


def brute_force(collection: Path, request: RetrievalRequest) -> list[tuple[str, str, float]]:
    """All demonstrations in scope, in the order of the result, as (task, id, similarity)."""
    opened, encoder = open_collection(collection), HashEncoder()
    tasks = [folder.task for folder in opened.tasks.values()]
    tasks = [task for task in tasks if request.task in (None, task.name) and request.family in (None, task.family)]
    if request.task is not None:
        fields = request.input if isinstance(request.input, Mapping) else {tasks[0].fields[0]: request.input}
        query = encoder_query(tasks[0].instruction, input_text(tasks[0], fields))
    else:
        instruction = opened.families[request.family].instruction if request.family else ALL_INSTRUCTION
        query = encoder_query(instruction, str(request.input))
    (vector,) = encoder.encode_queries([query]).astype(np.float64)
    rows = [(task, row) for task in tasks for row in opened.tasks[task.name].pool().rows]
    vectors = encoder.encode_demonstrations([encoder_demonstration(task, row) for task, row in rows])
    hits = [(task.name, row.id, round(float(v @ vector), 5)) for (task, row), v in zip(rows, vectors, strict=True)]
    return sorted(hits, key=lambda hit: (-hit[2], hit[1], hit[0]))


@pytest.mark.parametrize(
    "request_",
    [
        *(RetrievalRequest(input="where was the monday lamp", k=k, **scope) for k in (1, 3, 18) for scope in SCOPES),
        # Every row is there twice: ties go by id.
        RetrievalRequest(input={"thing": "kettle", "text": "works on monday"}, task="reviews", k=17),
    ],
    ids=str,
)
def test_retrieve_equals_brute_force(collection: Path, retriever: Retriever, request_: RetrievalRequest) -> None:
    (retrieval,) = retriever.retrieve_batch([request_])
    assert [(d.task, d.id, d.similarity) for d in retrieval] == brute_force(collection, request_)[: request_.k]
    assert [d.rank for d in retrieval] == list(range(1, request_.k + 1))


def test_ties_between_tasks_go_by_id_then_by_task(pools: OpenPools) -> None:
    rows = {name: [note(id, "fine day") for id in ids] for name, ids in (("a", "243"), ("b", "135"))}
    retrieval = pools(rows).retrieve(family="mood", input="a day", k=5)
    assert len({d.similarity for d in retrieval}) == 1
    assert [(d.id, d.task) for d in retrieval] == [("1", "b"), ("2", "a"), ("3", "a"), ("3", "b"), ("4", "a")]


def test_a_retrieval_in_json_has_rows_and_their_source(retriever: Retriever, index: Path) -> None:
    retrieval = retriever.retrieve("reviews", {"thing": "chair", "text": "fine thing indeed"}, 1)

    (demonstration,) = retrieval
    shown = {
        "id": "ra08",
        "task": "reviews",
        "similarity": demonstration.similarity,
        "rank": 1,
        "input": {"thing": "chair", "text": 'fine "{thing}" 🙂\n\t\\'},
        "target": "glad",
        "text": 'Thing: chair\nReview: fine "{thing}" 🙂\n\t\\\nMood: glad',
        "metadata": {"n": 8},
    }
    version = (index / "CURRENT").read_text().strip()
    assert list(demonstration.to_json().items()) == list(shown.items())
    assert retrieval.to_json() == {"demonstrations": [shown], "index_version": version, "model": "fake-hash"}
    counted = replace(demonstration, tokens=TokenCount(tokenizer="fingerprint", count=3))
    assert counted.to_json() == {**shown, "tokens": {"tokenizer": "fingerprint", "count": 3}}


def test_a_batch_equals_single_calls_and_encodes_once(retriever: Retriever, encoder: HashEncoder) -> None:
    requests = [RetrievalRequest(input="a fine day", k=k, **scope) for scope in SCOPES for k in (2, 5)]
    requests.append(replace(requests[0], exclude=("q00", "q01")))
    batches: list[int] = []
    encode = encoder.encode_queries

    def counted(texts: Any) -> Vectors:
        batches.append(len(texts))
        return encode(texts)

    encoder.encode_queries = counted  # type: ignore[method-assign]
    together = retriever.retrieve_batch(requests)

    assert batches == [len(requests)]
    assert together == [retriever.retrieve_batch([request])[0] for request in requests]
    assert retriever.retrieve_batch([]) == []


def test_threads_get_the_same_results(retriever: Retriever) -> None:
    days = "mon tue wed thu fri".split()
    requests = [RetrievalRequest(input=f"a {day} of rain", scope="all", k=5) for day in days] * 4
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda request: retriever.retrieve_batch([request])[0], requests))
    assert results == retriever.retrieve_batch(requests)


LAMP = {"thing": "LAMP", "text": "Works, every day!"}
LAMPS = {"ra03", "rb03"}


@pytest.mark.parametrize(
    ("request_", "excluded", "expected"),
    [
        (RetrievalRequest(input=LAMP, task="reviews", k=18), LAMPS, 16),
        (RetrievalRequest(input="Thing: lamp\nReview: works every day", family="mood", k=36), LAMPS, 36),
        (RetrievalRequest(input="what a fine friday", task="notes", k=20), {"n16"}, 19),
        (RetrievalRequest(input="What a FINE friday!", family="mood", k=38), {"n16"}, 37),
        (RetrievalRequest(input="What a FINE friday!", scope="all", k=62), {"n16"}, 61),
    ],
    ids=["fields", "family", "case", "family and case", "scope"],
)
def test_the_query_and_its_copies_are_excluded(
    retriever: Retriever, request_: RetrievalRequest, excluded: set[str], expected: int
) -> None:
    (retrieval,) = retriever.retrieve_batch([request_])
    assert len(retrieval) == expected
    assert not excluded & {d.id for d in retrieval}


def test_inputs_that_differ_in_more_than_punctuation_are_not_copies(pools: OpenPools) -> None:
    texts = {"laugh": "😂😂", "angry": "😡", "dots": "...", "day": "दिन", "less": "if x < 3", "other": "bus"}
    retriever = pools({"notes": [note(id, text) for id, text in texts.items()]})
    copies = {"🎉": set(), "दीन": set(), "if x > 3": set(), "?": set(), "😡 ": {"angry"}, "If x<3!": {"less"}}
    for query, excluded in copies.items():
        assert {*texts} - {d.id for d in retriever.retrieve("notes", query, 6)} == excluded, query


def test_operators_tell_rows_with_one_copy_key_apart(pools: OpenPools) -> None:
    """Stored keys know no operators, in indexes of before either, so the rows that they find are compared."""
    texts = {"minus": "7 - 5", "over": "7 / 5", "sum": "1 + 1", "sad": "good :("}
    retriever = pools({name: [note(id, text) for id, text in texts.items()] for name in ("notes", "others")})
    copies = {"7 * 5": set(), "7/5?": {"over"}, "good :)": set(), "GOOD :(": {"sad"}}
    for query, excluded in copies.items():
        retrieval = retriever.retrieve("notes", query, 4 - len(excluded))
        assert {*texts} - {d.id for d in retrieval} == excluded and retrieval.copies == len(excluded), query
        everywhere = retriever.retrieve(None, query, 8 - 2 * len(excluded), scope="all")
        assert everywhere.copies == 2 * len(excluded), query


def open_files(folder: Path) -> list[str]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [target for target in (os.readlink(link) for link in links) if target.startswith(str(folder.resolve()))]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's list of open files")
@pytest.mark.parametrize("options", [{}, {"kind": "IVF2,Flat", "flat_below": 0}, {"dtype": "float16"}], ids=str)
def test_a_closed_retriever_has_no_open_files(pools: OpenPools, options: dict[str, Any]) -> None:
    # Enough that the arrays of texts and vectors are mapped.
    rows = {"notes": [note(str(n), f"{n} dull days, and then a monday in may") for n in range(700)]}
    # The files must close without the garbage collector.
    gc.disable()
    try:
        retriever = pools(rows, bm25=True, **options)
        retriever.retrieve("notes", "a dull monday", 5, mode="hybrid")
        before = open_files(retriever.path)
        retriever.close()
        assert len(before) > 3 and open_files(retriever.path) == []
    finally:
        gc.enable()


def test_a_closed_retriever_says_so_and_opens_nothing_again(copy: Path) -> None:
    retriever = Retriever.open(copy, encoder=HashEncoder())
    retriever.put("notes", note("new", "a dull day"))
    plan, request = retriever.plan(RetrievalRequest(input="a dull day", task="notes")), note("x", "y")
    retriever.close()
    calls: list[Callable[[], object]] = [
        lambda: retriever.retrieve("notes", "a dull day"),
        lambda: retriever.search([plan], {0: np.ones(48, np.float32)}),
        lambda: retriever.demonstration("notes", "n00"),
        lambda: retriever.demonstrations("notes"),
        lambda: retriever.put("notes", request),
        lambda: retriever.delete("notes", "n00"),
        lambda: retriever.write(Change("notes", delete=["n00"])),
        lambda: retriever.read_fields({"notes": ["text"]}),
        lambda: retriever.sizes,
        lambda: retriever.overlay_position,
        lambda: retriever.overlay_bytes,
        retriever.shorten_log,
        retriever.at_hand,
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="this Retriever is closed; open the index again"):
            call()
    assert open_files(copy) == []


def test_a_home_folder_is_found(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(copy.parent))
    with Retriever.open(f"~/{copy.name}", encoder=HashEncoder()) as retriever:
        assert retriever.root == copy
    with pytest.raises(ArtifactError, match="~no-such-user/index: no index here"):
        Retriever.open("~no-such-user/index")


def test_numbers_of_numpy_are_taken(retriever: Retriever) -> None:
    options: dict[str, Any] = {"diversity": np.float32(0.5), "candidates": np.int16(9), "min_similarity": np.float64(0)}
    plain: dict[str, Any] = {"diversity": 0.5, "candidates": 9, "min_similarity": 0.0}
    expected = retriever.retrieve("questions", {"question": 7}, 3, **plain)
    number: Callable[[int], Any] = np.int64
    assert retriever.retrieve("questions", {"question": number(7)}, number(3), **options) == expected
    page = retriever.demonstrations("questions", limit=number(2))
    assert page == retriever.demonstrations("questions", limit=2)


def test_numbers_of_numpy_are_taken_wherever_they_are(copy: Path) -> None:
    """As clients send them: in lists, in filters, and in the rows of a write."""
    whole: Callable[[int], Any] = np.int64
    real: Callable[[float], Any] = np.float32
    with Retriever.open(copy, encoder=HashEncoder()) as retriever:
        listed = retriever.retrieve("questions", {"question": [7, [0.5, "x"]]}, 3)
        assert retriever.retrieve("questions", {"question": [whole(7), (real(0.5), "x")]}, 3) == listed
        metadata: dict[str, Any] = {"stars": whole(4), "parts": [{"share": real(0.5)}]}
        row = Row(id="other", input={"text": whole(7)}, target="glad", metadata=metadata)
        retriever.put("notes", [{**row.to_json(), "id": "new"}, row])
        stored = retriever.demonstration("notes", "new")
        assert (stored.input, stored.metadata) == ({"text": 7}, {"stars": 4, "parts": [{"share": 0.5}]})
        for test in (
            {"match": whole(4)},
            {"any": [whole(1), whole(4)]},
            {"range": {"gte": whole(3), "lt": real(4.5)}},
        ):
            found = retriever.demonstrations("notes", filter={"must": [{"key": "stars", **test}]})
            assert [item.id for item in found.rows] == ["new", "other"]
    condition = Condition(key="stars", any=(whole(1), whole(4)))
    assert condition == Condition(key="stars", any=(1, 4)) and all(type(value) is int for value in condition.any or ())
    with pytest.raises(InvalidInputError, match="all numbers or all texts"):
        Range(gte=real(float("nan")))


def test_float16_vectors_stay_small_in_memory(pools: OpenPools) -> None:
    rows = {"notes": [note(f"{n:04}", f"word {n}") for n in range(500)]}
    full, half = (pools(rows, dtype=dtype, encoder=HashEncoder(512)) for dtype in ("float32", "float16"))
    vectors = open_version(half.path.parents[1]).vectors("notes")
    tracemalloc.start()
    float16_proposer(vectors, block=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # All vectors at once, as float32, take a megabyte.
    assert peak < 5e5
    ids = [[d.id for d in retriever.retrieve("notes", "a word 7", 5)] for retriever in (full, half)]
    assert ids[0] == ids[1]


def test_dot_products_may_exceed_one(pools: OpenPools) -> None:
    retriever = pools({"notes": [note("1", "what a fine monday")]}, encoder=HashEncoder(metric="dot"))
    (demonstration,) = retriever.retrieve("notes", "what a fine monday it was on monday", 1)
    assert demonstration.similarity == round(demonstration.similarity) > 1


def test_a_retriever_describes_its_index(retriever: Retriever, index: Path) -> None:
    assert retriever.sizes == {"notes": 20, "questions": 24, "reviews": 18}
    assert list(retriever.tasks) == ["notes", "questions", "reviews"]
    families = {name: family.instruction for name, family in retriever.families.items()}
    assert families == {"mood": "Give the mood of the text.", "topic": "topic"}
    assert retriever.model == "fake-hash"
    assert retriever.path == index / "versions" / retriever.index_version
    assert retriever.max_characters == 32_768


def test_demonstration_returns_one_row(retriever: Retriever) -> None:
    row = Row(id="q00", input={"question": "Where is the river?"}, target="place")
    assert retriever.demonstration("questions", "q00") == row
    for task, id, message in (("questions", "q99", "q99"), ("nope", "q00", "notes, questions")):
        with pytest.raises(UnknownTaskError, match=message):
            retriever.demonstration(task, id)


NAN = float("nan")
BOUNDS, SHARES = ("min_similarity", "max_similarity"), ("distinct", "diversity")
SWITCHES = ("balance", "keep_copies", "explain")
INVALID: list[tuple[dict[str, Any], str]] = [
    ({"task": None, "scope": "most"}, "scope must be 'all', found 'most'"),
    ({"task": None}, "exactly one of task, family and scope; found none"),
    ({"family": "mood"}, "exactly one of .*; found task and family"),
    *(({"k": k}, f"k must be at least 1, found {k}") for k in (0, -1)),
    *(({"k": k}, f"whole number, found {k!r}") for k in (True, 2.0, "2")),
    ({"input": None}, "input"),
    ({"input": 7}, "fields by name, or plain text; found 7"),
    ({"input": {}}, "'question' of task 'questions' is missing; found no field"),
    ({"input": {"question": "a", "x": 1}}, "has no field 'x'; it has 'question'"),
    ({"input": {"question": {"a": 1}}}, "field 'question' .* must be a string"),
    ({"input": {"question": NAN}}, "field 'question'"),
    ({"input": {"question": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}}, "'question'"),
    ({"task": "reviews", "k": 1}, "'thing', 'text', but plain text"),
    ({"task": None, "family": "mood", "input": {"a": "b"}}, "plain text; found fields"),
    ({"input": "a\ud800"}, r"the input is not valid text: character 2, '\\ud800', is half a surrogate pair"),
    ({"input": {"question": "ab\ud800"}}, "field 'question' is not valid text: character 3, "),
    ({"task": None, "family": "mood", "input": "a\ud800"}, "the input is not valid text: character 2, "),
    ({"exclude": "q00"}, "exclude must be a list of ids, found 'q00'"),
    ({"exclude": [1]}, "exclude must be a list of ids, found \\[1\\]"),
    ({"exclude": ["x"] * 4097}, "exclude must have at most 4096 ids, found 4097"),
    ({"exclude": [1] * 4000}, "exclude must be a list of ids, found "),
    ({"exclude": "x" * 10**6}, "exclude must be a list of ids, found 'xxx"),
    ({"k": "9" * 10**6}, "k must be a whole number, found '999"),
    ({"k": -(10**5000)}, "k must be at least 1, found a number of 16610 bits"),
    ({"input": {"question": 10**5000}}, "field 'question' .* whole number has at most 4,300 digits"),
    ({"input": {"question": [-(10**5000)]}}, "field 'question' .* whole number has at most 4,300 digits"),
    *(({name: 10**5000}, f"{name} must be a number, found a number of 16610 bits") for name in (*BOUNDS, *SHARES)),
    ({"min_similarity": -(10**400)}, "min_similarity must be a number, found a number of 1329 bits"),
    ({"mode": "x" * 10**6}, "mode must be one of"),
    ({"distinct": [[0] * 10**6] * 9}, "distinct must be a number, found "),
    ({"candidates": "x" * 10**6}, "candidates must be a whole number"),
    ({"input": ["x" * 10**6]}, "fields by name, or plain text; found \\['xxx"),
    ({"input": {"x" * 10**6: 1}}, "'question' of task 'questions' is missing; found 'xxx"),
    ({"input": {"question": "", "x" * 10**6: 1}}, "has no field 'xxx"),
    ({"input": dict.fromkeys(map(str, range(10**5)), "")}, "found '0', '1', .*'11' and 99988 more"),
    *(({name: x}, f"{name} must be a number, found {x!r}") for name in (*BOUNDS, *SHARES) for x in (NAN, "0.5", True)),
    *(({name: x}, f"{name} must be from 0 to 1, found {x}") for name in SHARES for x in (1.1, -0.1, 2)),
    *(({name: x}, f"{name} must be true or false, found {x!r}") for name in SWITCHES for x in (1, "no")),
    ({"min_similarity": 0.5, "max_similarity": 0.25}, r"must not be above max_similarity \(0.25\); found 0.5"),
    ({"candidates": 1}, r"candidates must be a whole number, not below k \(2\); found 1"),
    ({"candidates": 8.0}, "candidates must be a whole number"),
    ({"candidates": 9}, "so give one of balance, coverage, distinct, diversity, explain, fill, .*; found none"),
    ({"candidates": 9, "min_similarity": 0.1}, "candidates is how many are chosen from or explained"),
    ({"mode": "sparse"}, "mode must be one of dense, bm25, hybrid; found 'sparse'"),
    ({"mode": "bm25"}, "mode 'bm25' needs an index with BM25; build it again: udr index build"),
]
UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"task": "nope"}, "unknown task 'nope'; the tasks are notes, questions, reviews"),
    ({"task": "x" * 10**6}, "unknown task 'xxx.*'; the tasks are notes, questions, reviews"),
    ({"task": None, "family": "nope"}, "unknown family 'nope'; the families are mood, topic"),
]


@pytest.mark.parametrize(
    ("changes", "message", "kind"),
    [*((*case, InvalidInputError) for case in INVALID), *((*case, UnknownTaskError) for case in UNKNOWN)],
)
def test_an_invalid_request_is_an_error_of_one_line(
    retriever: Retriever, encoder: HashEncoder, changes: dict[str, Any], message: str, kind: type[RequestError]
) -> None:
    arguments: dict[str, Any] = {"task": "questions", "input": "Who?", "k": 2, **changes}
    with pytest.raises(kind, match=message) as caught:
        retriever.retrieve(**arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert encoder.queries == []


def test_tasks_without_support_for_an_option_are_an_error(pools: OpenPools) -> None:
    keys = {key: value for key, value in NOTES.items() if key != "labels"}
    retriever = pools({"free": [note("1", "a")]}, {**keys, "kind": "generation", "metric": "exact_match"}, bm25=True)
    with pytest.raises(InvalidInputError, match="balance needs classification tasks, but these are not: free"):
        retriever.retrieve("free", "c", 1, balance=True)
    with pytest.raises(InvalidInputError, match="diversity weighs the encoder's similarities, so mode must be 'dense'"):
        retriever.retrieve("free", "c", 1, diversity=0.5, mode="bm25")


def test_an_unknown_task_lists_a_dozen_of_many() -> None:
    assert str(unknown("task", "x", [f"t{n:02}" for n in range(49)])).endswith("t10, t11 and 37 more")


def test_the_length_limit_is_exact(retriever: Retriever) -> None:
    longest = "x" * (32_768 - len("Question: "))
    assert len(retriever.retrieve("questions", longest, 1)) == 1
    with pytest.raises(TooLongError, match=r"^the input has 32769 characters; the limit is 32768$"):
        retriever.retrieve("questions", f"{longest}x", 1)


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = ["x"]
    for _ in range(depth):
        value = [value]
    return value


ENDLESS: list[Any] = [""]
ENDLESS.append(ENDLESS)
WIDE: list[Any] = [0] * 20_000


@pytest.mark.parametrize("value", [["x"] * 10**6, ["x" * 999] * 40, WIDE, [WIDE] * 9], ids=["many", "long", "0", "in"])
def test_an_input_of_too_many_values_is_an_error_before_any_work(retriever: Retriever, value: Any) -> None:
    request = RetrievalRequest(input={"question": value}, task="questions", k=2)
    with pytest.raises(TooLongError, match=r"^the input has at least \d+ characters; the limit is 32768$"):
        retriever.plan(request)
    assert retriever.planning_characters(request) > 32_768


def test_the_work_of_planning_is_known_before(retriever: Retriever) -> None:
    text = RetrievalRequest(input="x" * 100, scope="all")
    assert retriever.planning_characters(text) == 300
    assert retriever.planning_characters(replace(text, scope=None, family="mood")) == 200
    assert retriever.planning_characters(replace(text, scope=None, task="notes")) == 100
    assert retriever.planning_characters(replace(text, input={"a": ["x" * 9, "y", 1, None], "b": nested(5)})) == 54
    for invalid in (None, 7, nested(10**5), ENDLESS, {"a": ENDLESS}):
        assert retriever.planning_characters(RetrievalRequest(input=invalid, task="nope", k=-1)) <= 10**6  # type: ignore[arg-type]


def test_an_invalid_request_does_not_affect_others(retriever: Retriever) -> None:
    valid = RetrievalRequest(input="Who?", task="questions", k=2)
    requests = [valid, replace(valid, k=0), replace(valid, task="nope"), valid]
    results = retriever.answer(requests)
    assert results[0] == results[3] == retriever.retrieve("questions", "Who?", 2)
    assert isinstance(results[1], InvalidInputError)
    assert isinstance(results[2], UnknownTaskError)
    with pytest.raises(InvalidInputError, match="request 2: k must be"):
        retriever.retrieve_batch(requests)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "other"}, "with fingerprint .* has fingerprint other"),
        ({"dimension": 24}, "with dimension 48, but encoder 'fake-hash' has dimension 24"),
        ({"metric": "dot"}, "with metric cosine, but encoder 'fake-hash' has metric dot"),
    ],
)
def test_another_encoder_is_an_error(index: Path, encoder: HashEncoder, changes: dict[str, Any], message: str) -> None:
    vars(encoder).update(changes)
    with pytest.raises(ArtifactError, match=f"built by encoder 'fake-hash' {message}; .*udr index build"):
        Retriever.open(index, encoder=encoder)


def test_an_encoder_that_returns_nan_is_an_error(retriever: Retriever, encoder: HashEncoder) -> None:
    encoder.encode_queries = lambda texts: np.full((len(texts), 48), np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="not finite"):
        retriever.retrieve("questions", "Who?", 2)


def test_open_verifies_every_file_by_default(copy: Path) -> None:
    (vectors,) = copy.glob("versions/*/partitions/notes/vectors.npy")
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    with pytest.raises(VerificationError, match=r"notes/vectors.npy: is altered.*run: udr index verify"):
        Retriever.open(copy, encoder=HashEncoder())
    Retriever.open(copy, encoder=HashEncoder(), verify=False).close()
