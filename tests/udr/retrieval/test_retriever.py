"""The retriever against brute force, and every request that cannot be answered."""

import gc
import os
import shutil
import tracemalloc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import NOTES, HashEncoder, write_task
from udr.data import (
    ALL_INSTRUCTION,
    Task,
    encoder_demonstration,
    encoder_query,
    input_text,
    normalised,
    open_collection,
)
from udr.errors import (
    ArtifactError,
    InvalidInputError,
    ModelError,
    RequestError,
    TooLongError,
    UnknownTaskError,
    VerificationError,
)
from udr.retrieval import RetrievalRequest, Retriever
from udr.search import Vectors
from udr.types import Row
from udr_index.build import BuildConfig, build

SCOPES: list[dict[str, Any]] = [{"task": "questions"}, {"task": "notes"}, {"family": "mood"}, {"scope": "all"}]


def brute_force(collection: Path, request: RetrievalRequest) -> list[tuple[str, str, float]]:
    """All demonstrations in scope, in the order of the answer, as (task, id, similarity); nothing is left out."""
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

    def similarity(task: Task, row: Row) -> float:
        return round(float(vector @ encoder.encode_demonstrations([encoder_demonstration(task, row)])[0]), 5)

    rows = [(task, row) for task in tasks for row in opened.tasks[task.name].pool().rows]
    found = [(task.name, row.id, similarity(task, row)) for task, row in rows]
    return sorted(found, key=lambda hit: (-hit[2], hit[1], hit[0]))


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@pytest.mark.parametrize("k", [1, 3, 18])
def test_retrieve_equals_brute_force(collection: Path, retriever: Retriever, scope: dict[str, Any], k: int) -> None:
    request = RetrievalRequest(input="where was the monday lamp", k=k, **scope)

    (retrieval,) = retriever.retrieve_batch([request])

    assert [(d.task, d.id, d.similarity) for d in retrieval] == brute_force(collection, request)[:k]
    assert [d.rank for d in retrieval] == list(range(1, k + 1))


def test_retrieve_of_equal_rows_goes_by_id(collection: Path, retriever: Retriever) -> None:
    request = RetrievalRequest(input={"thing": "kettle", "text": "works on monday"}, task="reviews", k=17)

    found = [(d.task, d.id, d.similarity) for d in retriever.retrieve("reviews", request.input, 17)]

    assert found == brute_force(collection, request)[:17]
    assert [id for _, id, _ in found][:2] in (["ra00", "rb00"], ["ra01", "rb01"])


def test_ties_between_tasks_go_by_id_then_by_task(tmp_path: Path) -> None:
    keys = {**NOTES, "instruction": "Give the mood."}
    for task, ids in (("a", ["2", "4", "3"]), ("b", ["1", "3", "5"])):
        rows: list[Mapping[str, Any]] = [{"id": id, "input": {"text": "fine day"}, "target": "glad"} for id in ids]
        write_task(tmp_path / "tasks", {**keys, "name": task}, train=rows)
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index"), HashEncoder())

    with Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever:
        found = retriever.retrieve(family="mood", input="a day", k=5)

    assert len({d.similarity for d in found}) == 1
    assert [(d.id, d.task) for d in found] == [("1", "b"), ("2", "a"), ("3", "a"), ("3", "b"), ("4", "a")]


def test_retrieve_gives_the_row_and_where_it_came_from(retriever: Retriever, index: Path) -> None:
    retrieval = retriever.retrieve("reviews", {"thing": "chair", "text": "fine thing indeed"}, 1)

    assert retrieval.to_json() == {
        "demonstrations": [
            {
                "id": "ra08",
                "task": "reviews",
                "similarity": retrieval[0].similarity,
                "rank": 1,
                "input": {"thing": "chair", "text": 'fine "{thing}" 🙂\n\t\\'},
                "target": "glad",
                "text": 'Thing: chair\nReview: fine "{thing}" 🙂\n\t\\\nMood: glad',
                "metadata": {"n": 8},
            }
        ],
        "index_version": (index / "CURRENT").read_text().strip(),
        "model": "fake-hash",
    }


def test_batch_equals_single_calls_and_encodes_once(retriever: Retriever, encoder: HashEncoder) -> None:
    words = ("fine", "sad")
    requests = [RetrievalRequest(input=f"a {w} day", k=k, **scope) for scope in SCOPES for w in words for k in (2, 5)]
    requests.append(replace(requests[0], exclude=("q00", "q01")))
    calls = 0
    encode = encoder.encode_queries

    def counted(texts: Any) -> Vectors:
        nonlocal calls
        calls += 1
        return encode(texts)

    encoder.encode_queries = counted  # type: ignore[method-assign]
    together = retriever.retrieve_batch(requests)

    assert calls == 1
    assert together == [retriever.retrieve_batch([request])[0] for request in requests]
    assert retriever.retrieve_batch([]) == []


def test_threads_get_what_one_caller_gets(retriever: Retriever) -> None:
    days = "mon tue wed thu fri".split()
    requests = [RetrievalRequest(input=f"a {day} of rain", scope="all", k=5) for day in days] * 8

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda request: retriever.retrieve_batch([request])[0], requests))

    assert answers == retriever.retrieve_batch(requests)


def test_the_query_and_its_copies_never_come_back_but_k_others_do(retriever: Retriever) -> None:
    copied = {"thing": "LAMP", "text": "Works, every day!"}

    found = retriever.retrieve("reviews", copied, 16)

    assert len(found) == 16
    assert not {"ra03", "rb03"} & {d.id for d in found}
    assert all(normalised(str(d.input)) != normalised(str(copied)) for d in found)


@pytest.mark.parametrize("scope", [{"task": "notes"}, {"family": "mood"}, {"scope": "all"}], ids=str)
@pytest.mark.parametrize("text", ["what a fine friday", "What a FINE friday!"])
def test_copies_of_plain_text_never_come_back_in_any_scope(
    retriever: Retriever, scope: dict[str, Any], text: str
) -> None:
    assert "n16" not in {d.id for d in retriever.retrieve(input=text, k=20, **scope)}


def test_worded_text_is_a_copy_in_a_wider_scope(retriever: Retriever) -> None:
    found = retriever.retrieve(family="mood", input="Thing: lamp\nReview: works every day", k=36)

    assert len(found) == 36
    assert not {"ra03", "rb03"} & {d.id for d in found}


@pytest.mark.parametrize(
    ("query", "excluded"),
    [("🎉", set()), ("दीन", set()), ("if x > 3", set()), ("?", set()), ("😡 ", {"angry"}), ("If x<3!", {"less"})],
)
def test_inputs_that_differ_in_more_than_punctuation_are_no_copies(
    tmp_path: Path, query: str, excluded: set[str]
) -> None:
    texts = {"laugh": "😂😂", "angry": "😡", "dots": "...", "day": "दिन", "less": "if x < 3", "other": "bus"}
    rows: list[Mapping[str, Any]] = [
        {"id": id, "input": {"text": text}, "target": "glad"} for id, text in texts.items()
    ]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / "index"), HashEncoder())

    with Retriever.open(tmp_path / "index", encoder=HashEncoder()) as retriever:
        found = {one.id for one in retriever.retrieve("notes", query, 6)}

    assert {*texts} - found == excluded


def open_files(folder: Path) -> list[str]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [target for target in (os.readlink(link) for link in links) if target.startswith(str(folder.resolve()))]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's list of open files")
@pytest.mark.parametrize("changes", [{}, {"kind": "IVF2,Flat", "flat_below": 0}, {"dtype": "float16"}], ids=str)
def test_a_retriever_that_is_closed_has_no_file_open(collection: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path, bm25=True, **changes), HashEncoder())
    # No help from the collector: what is closed is closed at once.
    gc.disable()
    try:
        retriever = Retriever.open(tmp_path, encoder=HashEncoder())
        retriever.retrieve("notes", "a dull monday", 5, mode="hybrid")
        opened = open_files(tmp_path)
        retriever.close()
        assert len(opened) > 3 and open_files(tmp_path) == []
    finally:
        gc.enable()


def test_half_precision_stays_as_small_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("udr.search.faiss_cpu.BLOCK", 50)
    rows: list[Mapping[str, Any]] = [
        {"id": f"{n:04}", "input": {"text": f"word {n}"}, "target": "glad"} for n in range(500)
    ]
    write_task(tmp_path / "tasks", NOTES, train=rows)
    found = []
    for dtype in ("float32", "float16"):
        encoder = HashEncoder(512)
        build(BuildConfig(tasks=tmp_path / "tasks", out=tmp_path / dtype, dtype=dtype), encoder)
        tracemalloc.start()
        with Retriever.open(tmp_path / dtype, encoder=encoder, verify=False) as retriever:
            _, peak = tracemalloc.get_traced_memory()
            found.append([one.id for one in retriever.retrieve("notes", "a word 7", 5)])
        tracemalloc.stop()
        # Of all at once, as float32, it would be a megabyte.
        assert peak < 5e5

    assert found[0] == found[1]


def test_a_pool_of_copies_gives_fewer_than_k(retriever: Retriever) -> None:
    assert len(retriever.retrieve("reviews", {"thing": "lamp", "text": "works every day"}, 18)) == 16


def test_excluded_ids_never_come_back_but_k_others_do(retriever: Retriever) -> None:
    first = retriever.retrieve("questions", "Who sold the castle?", 4)

    excluded = [d.id for d in first]
    second = retriever.retrieve("questions", "Who sold the castle?", 8, exclude=[*excluded, "no such id", "x\0y'\""])

    assert len(second) == 8
    assert not set(excluded) & {d.id for d in second}
    everything = [d.id for d in retriever.retrieve("questions", "Who sold the castle?", 24)]
    assert [d.id for d in second] == [id for id in everything if id not in excluded][:8]


def test_min_similarity_leaves_out_the_less_similar_and_keeps_the_equal(retriever: Retriever) -> None:
    everything = retriever.retrieve("notes", "a dull monday", 20)
    bound = everything[5].similarity

    found = retriever.retrieve("notes", "a dull monday", 20, min_similarity=bound)

    assert list(found) == [d for d in everything if d.similarity >= bound]
    assert len(retriever.retrieve("notes", "a dull monday", 20, min_similarity=1.5)) == 0


def test_dot_product_similarities_are_not_bounded_by_one(collection: Path, tmp_path: Path) -> None:
    encoder = HashEncoder(metric="dot")
    build(BuildConfig(tasks=collection, out=tmp_path), encoder)

    with Retriever.open(tmp_path, encoder=encoder) as retriever:
        found = retriever.retrieve("notes", "what a fine monday it was on monday", 3)

    assert found[0].similarity == round(found[0].similarity) > 1


def test_a_retriever_tells_what_it_serves(retriever: Retriever, index: Path) -> None:
    assert retriever.sizes == {"notes": 20, "questions": 24, "reviews": 18}
    assert list(retriever.tasks) == ["notes", "questions", "reviews"]
    assert {name: family.instruction for name, family in retriever.families.items()} == {
        "mood": "Give the mood of the text.",
        "topic": "topic",
    }
    assert retriever.model == "fake-hash"
    assert retriever.path == index / "versions" / retriever.index_version
    assert retriever.max_characters == 32_768


def test_demonstration_gives_one_row(retriever: Retriever) -> None:
    assert retriever.demonstration("questions", "q00") == Row(
        id="q00", input={"question": "Where is the river?"}, target="place"
    )


@pytest.mark.parametrize(("task", "id", "named"), [("questions", "q99", "q99"), ("nope", "q00", "notes, questions")])
def test_demonstration_that_is_not_there(retriever: Retriever, task: str, id: str, named: str) -> None:
    with pytest.raises(UnknownTaskError, match=named):
        retriever.demonstration(task, id)


BAD_REQUESTS: dict[str, tuple[dict[str, Any], type[RequestError], str]] = {
    "unknown task": ({"task": "nope"}, UnknownTaskError, "unknown task 'nope'; there are notes, questions, reviews"),
    "unknown family": (
        {"task": None, "family": "nope"},
        UnknownTaskError,
        "unknown family 'nope'; there are mood, topic",
    ),
    "unknown scope": ({"task": None, "scope": "most"}, InvalidInputError, "scope must be 'all', found 'most'"),
    "no scope": ({"task": None}, InvalidInputError, "exactly one of task, family and scope; found none"),
    "two scopes": ({"family": "mood"}, InvalidInputError, "exactly one of .*; found task and family"),
    "k zero": ({"k": 0}, InvalidInputError, "k must be from 1 to 24.*'questions'; found 0"),
    "k negative": ({"k": -1}, InvalidInputError, "found -1"),
    "k above the pool": ({"k": 25}, InvalidInputError, "k must be from 1 to 24.*'questions'; found 25"),
    "k above the family": ({"task": None, "family": "mood", "k": 39}, InvalidInputError, "1 to 38.*'mood'; found 39"),
    "k above everything": ({"task": None, "scope": "all", "k": 63}, InvalidInputError, "1 to 62.*'all'; found 63"),
    "k true": ({"k": True}, InvalidInputError, "whole number, found True"),
    "k a fraction": ({"k": 2.0}, InvalidInputError, "whole number, found 2.0"),
    "k a text": ({"k": "2"}, InvalidInputError, "whole number, found '2'"),
    "input missing": ({"input": None}, InvalidInputError, "input"),
    "input a number": ({"input": 7}, InvalidInputError, "fields by name, or plain text; found 7"),
    "field missing": ({"input": {}}, InvalidInputError, "'question' of task 'questions' is missing; found no field"),
    "field unknown": ({"input": {"question": "a", "x": 1}}, InvalidInputError, "has no field 'x'; it has 'question'"),
    "field of the wrong kind": (
        {"input": {"question": {"a": 1}}},
        InvalidInputError,
        "field 'question' .* must be text",
    ),
    "field not a number": ({"input": {"question": float("nan")}}, InvalidInputError, "field 'question'"),
    "field nested too deep": (
        {"input": {"question": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}},
        InvalidInputError,
        "'question'",
    ),
    "plain text for two fields": ({"task": "reviews", "k": 1}, InvalidInputError, "'thing', 'text', but plain text"),
    "fields for a family": (
        {"task": None, "family": "mood", "input": {"a": "b"}},
        InvalidInputError,
        "plain text; found fields",
    ),
    "text of 100,000 characters": ({"input": "x" * 100_000}, TooLongError, "100010 characters; the limit is 32768"),
    "half a surrogate pair": ({"input": "a\ud800"}, InvalidInputError, "half a surrogate pair"),
    "min_similarity not a number": ({"min_similarity": float("nan")}, InvalidInputError, "min_similarity .* nan"),
    "min_similarity a text": ({"min_similarity": "0.5"}, InvalidInputError, "min_similarity .* '0.5'"),
    "exclude a text": ({"exclude": "q00"}, InvalidInputError, "exclude must be a list of ids, found 'q00'"),
    "exclude not ids": ({"exclude": [1]}, InvalidInputError, "exclude"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_request_gets_one_line_that_names_it(retriever: Retriever, encoder: HashEncoder, name: str) -> None:
    changed, kind, message = BAD_REQUESTS[name]
    arguments: dict[str, Any] = {"task": "questions", "input": "Who?", "k": 2, **changed}

    with pytest.raises(kind, match=message) as caught:
        retriever.retrieve(**arguments)

    assert "\n" not in str(caught.value)
    assert encoder.queries == []


def test_an_unknown_task_lists_a_dozen_of_many() -> None:
    from udr.retrieval import unknown

    assert str(unknown("task", "x", [f"t{number:02}" for number in range(49)])).endswith("t10, t11 and 37 more")


def test_longest_text_is_answered_and_one_more_character_is_not(retriever: Retriever) -> None:
    room = 32_768 - len("Question: ")

    assert len(retriever.retrieve("questions", "x" * room, 1)) == 1
    with pytest.raises(TooLongError):
        retriever.retrieve("questions", "x" * (room + 1), 1)


def test_one_bad_request_leaves_the_others_alone(retriever: Retriever) -> None:
    good = RetrievalRequest(input="Who?", task="questions", k=2)
    answers = retriever.answer([good, replace(good, k=0), replace(good, task="nope"), good])

    assert answers[0] == answers[3] == retriever.retrieve("questions", "Who?", 2)
    assert isinstance(answers[1], InvalidInputError)
    assert isinstance(answers[2], UnknownTaskError)
    with pytest.raises(InvalidInputError, match="request 2: k must be"):
        retriever.retrieve_batch([good, replace(good, k=0), replace(good, task="nope")])


@pytest.mark.parametrize(
    ("encoder", "what"),
    [
        (HashEncoder(salt="other"), "fingerprint"),
        (HashEncoder(24), "fingerprint|dimension"),
        (HashEncoder(metric="dot"), ""),
    ],
)
def test_another_encoder_is_refused(index: Path, encoder: HashEncoder, what: str) -> None:
    with pytest.raises(ArtifactError, match=f"built by encoder 'fake-hash' with .*{what}.*udr index build"):
        Retriever.open(index, encoder=encoder)


def test_another_dimension_under_the_same_fingerprint_is_refused(index: Path) -> None:
    encoder = HashEncoder(24)
    encoder.fingerprint = HashEncoder().fingerprint

    with pytest.raises(ArtifactError, match="with dimension 48, but encoder 'fake-hash' has dimension 24"):
        Retriever.open(index, encoder=encoder)


def test_an_encoder_that_gives_no_numbers_is_found_out(retriever: Retriever, encoder: HashEncoder) -> None:
    encoder.encode_queries = lambda texts: np.full((len(texts), 48), np.nan, np.float32)  # type: ignore[method-assign]

    with pytest.raises(ModelError, match="not finite"):
        retriever.retrieve("questions", "Who?", 2)


def test_open_names_the_index_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no index here, there is no CURRENT file; run: udr index build"):
        Retriever.open(tmp_path, encoder=HashEncoder())


def test_open_reads_every_file_unless_told_not_to(index: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(index, copy)
    (vectors,) = copy.glob("versions/*/partitions/notes/vectors.npy")
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)

    with pytest.raises(VerificationError, match=r"notes/vectors.npy: is altered.*run: udr index verify"):
        Retriever.open(copy, encoder=HashEncoder())
    Retriever.open(copy, encoder=HashEncoder(), verify=False).close()
