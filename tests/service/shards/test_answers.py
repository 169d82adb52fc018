"""Pools in several services: their merged answers equal those of one index of all rows."""

import asyncio
import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import HashEncoder
from tests.service.shards.conftest import NUMBER, Services, ask
from udr.client.shards import ShardedClient, read_placements
from udr.errors import InvalidInputError, ShardsError, UnknownTaskError
from udr.retrieval import Retrieval, RetrievalRequest, Retriever
from udr.types import Row
from udr_index.build import BuildConfig, build
from udr_index.versions import PLACEMENTS, place
from udr_index.versions.live import compact

QUERIES: Sequence[Mapping[str, Any]] = [
    {"task": "notes", "input": "a dull day", "k": 25},
    {"task": "notes", "input": "a dull day"},
    {"task": "notes", "input": "i lost it on friday", "k": 20},
    {"task": "questions", "input": "Where is the old bridge?", "k": 24, "keep_copies": True},
    {"task": "reviews", "input": {"thing": "lamp", "text": "works every day"}, "k": 5},
    {"task": "reviews", "input": {"thing": "lamp", "text": "broke on monday"}, "k": 7, "keep_copies": True},
    {"task": "reviews", "input": {"thing": "kettle", "text": "fine"}, "k": 3, "exclude": ["ra00", "rb02"]},
    {"task": "reviews", "input": {"thing": "kettle", "text": "works"}, "k": 9, "filter": "n >= 3 and n < 7"},
    {"task": "notes", "input": "a dull day", "min_similarity": 0.5},
    {"task": "notes", "input": "a dull day", "max_similarity": 0.6, "k": 6},
    {"task": "notes", "input": "a dull day", "max_copy": 0.8, "k": 6},
    {"task": "notes", "input": "what a fine sunday", "balance": True, "k": 7},
    {"task": "questions", "input": "How old is Emma?", "balance": True, "k": 11, "max_similarity": 0.7},
    {"task": "notes", "input": "a dull day", "k": 2, "fill": True, "candidates": 9},
    {"task": "notes", "input": "a dull day", "k": 2, "fill": True},
    {"task": "notes", "input": "a dull day", "k": 2, "balance": True, "fill": True, "candidates": 5},
    {"family": "mood", "input": "a fine monday", "k": 12},
    {"scope": "all", "input": "where is the kettle on monday", "k": 30},
    {"scope": "all", "input": "monday", "k": 62, "min_similarity": 0.1},
]


@pytest.mark.parametrize("query", QUERIES, ids=json.dumps)
def test_merged_answers_equal_those_of_one_index(
    shards: Path, services: Services, retriever: Retriever, query: Mapping[str, Any]
) -> None:
    request = RetrievalRequest(**query)
    (expected,) = retriever.answer([request])
    assert isinstance(expected, Retrieval)
    (merged,) = ask(services, shards / PLACEMENTS, [request])
    assert isinstance(merged, Retrieval), merged
    assert [*merged] == [*expected]
    assert (merged.k, merged.scale, merged.model) == (expected.k, expected.scale, expected.model)
    assert merged.copies == expected.copies
    assert merged.index_version == read_placements(shards / PLACEMENTS).version
    assert not merged.missing_shards


INVALID: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"task": "notes", "k": 0}, "k must be at least 1"),
    ({"task": "poems"}, "unknown task 'poems'"),
    ({"task": "notes", "family": "mood"}, "give exactly one of"),
    ({"scope": "all", "balance": True, "candidates": 3}, "candidates must be"),
    ({"task": "notes", "filter": "n >="}, "filter"),
    ({"task": "notes", "mode": "bm25"}, "mode 'bm25' reads statistics of all rows, but its rows are in 3 shards"),
    ({"task": "notes", "mode": "hybrid"}, "mode 'hybrid' reads statistics"),
    ({"task": "notes", "distinct": 0.0}, "distinct compares the vectors"),
    ({"task": "notes", "diversity": 0.5}, "diversity compares the vectors"),
    ({"task": "notes", "coverage": 0.5}, "coverage reads statistics"),
    ({"task": "notes", "explain": True}, "explain tells the place"),
    ({"task": "notes", "label_head": True}, "label_head needs a head"),
]


@pytest.mark.parametrize(("query", "problem"), INVALID, ids=[problem for _, problem in INVALID])
def test_what_needs_all_rows_is_refused(
    shards: Path, services: Services, query: Mapping[str, Any], problem: str
) -> None:
    valid = RetrievalRequest(task="notes", input="a dull day")
    refused, answered = ask(
        services, shards / PLACEMENTS, [RetrievalRequest(**{"input": "a dull day", **query}), valid]
    )
    assert isinstance(refused, UnknownTaskError if "unknown" in problem else InvalidInputError)
    assert problem in str(refused)
    assert isinstance(answered, Retrieval)


REQUEST, FEW = (RetrievalRequest(task="notes", input="a dull day", k=k) for k in (20, 5))


def test_answer_names_the_shards_that_are_stopped(
    shards: Path, services: Services, retriever: Retriever, caplog: pytest.LogCaptureFixture
) -> None:
    services.stopped = {"shard-2"}
    (partial,) = ask(services, shards / PLACEMENTS, [REQUEST])
    assert partial.missing_shards == ("shard-2-of-3",)
    assert partial.to_json()["missing_shards"] == ["shard-2-of-3"]
    (whole,) = retriever.answer([REQUEST])
    assert isinstance(whole, Retrieval)
    with Retriever.open(shards / "shard-2-of-3", encoder=HashEncoder()) as lost:
        kept = [item for item in whole if lost.partitions().view.row("notes", item.id) is None]
    assert [(item.id, item.similarity) for item in partial] == [(item.id, item.similarity) for item in kept]
    assert 0 < len(partial) < len(whole)
    assert "answers lack shard shard-2-of-3: http://shard-2: cannot be reached" in caplog.text


def test_silent_shard_costs_its_time_once(shards: Path, services: Services, caplog: pytest.LogCaptureFixture) -> None:
    services.silent = {"shard-2"}

    async def answers() -> list[tuple[Any, float]]:
        results: list[tuple[Any, float]] = []
        loop = asyncio.get_running_loop()
        placements = read_placements(shards / PLACEMENTS)
        async with ShardedClient(placements, timeout=2.0, transport=services.transport) as client:
            for turn, request in enumerate([REQUEST] * 3 + [FEW]):
                if turn == 2:
                    services.silent = set()
                    await asyncio.sleep(1.0)
                started = loop.time()
                (result,) = await client.answer([request])
                results.append((result, loop.time() - started))
        return results

    with Retriever.open(shards / "shard-2-of-3", encoder=HashEncoder()) as opened:
        services.serve("shard-2", opened, max_candidates=5)
        (first, waited), (second, at_once), (refused, _), (whole, _) = asyncio.run(answers())
    # It refuses the third request, with which it has answered.
    assert first.missing_shards == second.missing_shards == refused.missing_shards == ("shard-2-of-3",)
    assert waited > 1.5 > at_once
    # It is asked again without anybody's help, and what changes is logged once.
    lacking, again = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert re.fullmatch(r"answers lack shard shard-2-of-3: http://shard-2: no answer within 1\.[0-6] seconds", lacking)
    assert again == "shard shard-2-of-3 answers again"
    assert len(whole) == 5
    assert not whole.missing_shards


def test_error_says_why_no_shard_answers(shards: Path, services: Services) -> None:
    services.stopped = {f"shard-{n}" for n in range(1, NUMBER + 1)}
    (failed,) = ask(services, shards / PLACEMENTS, [REQUEST])
    assert isinstance(failed, ShardsError)
    assert failed.status == 503
    assert str(failed).startswith("no shard answered: shard shard-1-of-3: http://shard-1: cannot be reached")


def test_replicas_of_a_shard_stand_in_for_each_other(tmp_path: Path, shards: Path, services: Services) -> None:
    place(
        tmp_path / "placements",
        {shards / f"shard-{n}-of-3": [f"http://shard-{n}", f"http://shard-{n}-too"] for n in range(1, 4)},
    )
    services.stopped = {"shard-1", "shard-2-too"}
    services.silent = {"shard-3"}
    for result in ask(services, tmp_path / "placements", [REQUEST] * 3, seconds=4.0):
        assert len(result) == 20
        assert not result.missing_shards


def test_answers_of_another_version_are_not_merged(tmp_path: Path, shards: Path, services: Services) -> None:
    # The services of the first two have changed places.
    hosts = {1: 2, 2: 1, 3: 3}
    place(tmp_path / "placements", {shards / f"shard-{n}-of-3": [f"http://shard-{h}"] for n, h in hosts.items()})
    (partial,) = ask(services, tmp_path / "placements", [REQUEST])
    assert partial.missing_shards == ("shard-1-of-3", "shard-2-of-3")
    # A service of the same shard with its version stands in, whichever is asked first.
    for both in (1, 2), (2, 1):
        pairs = {1: (1,), 2: both, 3: (3,)}
        urls = {shards / f"shard-{n}-of-3": [f"http://shard-{h}" for h in each] for n, each in pairs.items()}
        place(tmp_path / "placements", urls)
        (whole,) = ask(services, tmp_path / "placements", [REQUEST])
        assert not whole.missing_shards


def test_answers_of_a_compacted_shard_are_merged_if_no_other_shard_has_them(
    tmp_path: Path, shards: Path, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(shards / "shard-2-of-3", tmp_path / "shard-2-of-3")
    with Retriever.open(folder, encoder=HashEncoder()) as before:
        before.put("notes", [Row(id="new", input={"text": "a dull dull day"}, target="sad")])
    compact(folder, HashEncoder())

    async def answers() -> list[Any]:
        placements = read_placements(shards / PLACEMENTS)
        async with ShardedClient(placements, timeout=10.0, transport=services.transport) as client:
            return [*await client.answer([FEW, REQUEST]), await client.unready()]

    with Retriever.open(folder, encoder=HashEncoder()) as after:
        services.serve("shard-2", after)
        few, all_rows, unready = asyncio.run(answers())
        assert few[0].id == "new" and len(all_rows) == 20
        assert not few.missing_shards and not all_rows.missing_shards and not unready
        # Which of the two is right, nobody knows: rows would be there twice, and others not at all.
        services.serve("shard-1", after)
        few, *_ = asyncio.run(answers())
    assert few.missing_shards == ("shard-1-of-3", "shard-2-of-3")
    assert f"serves version {after.index_version}, as another shard does; correct the addresses" in caplog.text


def test_a_version_of_another_encoder_is_not_merged_and_its_shard_not_ready(
    tmp_path: Path, collection: Path, shards: Path, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path, bm25=False), HashEncoder(salt="other"))

    async def answers() -> tuple[Any, list[str]]:
        placements = read_placements(shards / PLACEMENTS)
        async with ShardedClient(placements, timeout=10.0, transport=services.transport) as client:
            unready = await client.unready()
            return (await client.answer([FEW]))[0], unready

    with Retriever.open(tmp_path, encoder=HashEncoder(salt="other")) as other:
        services.serve("shard-1", other)
        few, unready = asyncio.run(answers())
    assert few.missing_shards == ("shard-1-of-3",) and unready == ["shard-1-of-3"]
    assert "has another encoder, wording or tasks than the shard; make a new manifest" in caplog.text


def test_shard_that_alone_refuses_a_request_counts_as_missing(
    tmp_path: Path, collection: Path, shards: Path, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    build(BuildConfig(tasks=collection, out=tmp_path, names=("questions",), bm25=False), HashEncoder())
    with (
        Retriever.open(tmp_path, encoder=HashEncoder()) as other,
        Retriever.open(shards / "shard-2-of-3", encoder=HashEncoder()) as second,
    ):
        services.serve("shard-1", other)
        services.serve("shard-2", second, max_candidates=5)
        many, less = ask(services, shards / PLACEMENTS, [REQUEST, FEW])
        assert many.missing_shards == ("shard-1-of-3", "shard-2-of-3")
        assert less.missing_shards == ("shard-1-of-3",)
        assert "answers lack shard shard-1-of-3: unknown task 'notes'" in caplog.text
        assert "answers lack shard shard-2-of-3: candidates must be at most 5" in caplog.text
        services.serve("shard-3", second, max_candidates=5)
        services.stopped = {"shard-1"}
        (refused,) = ask(services, shards / PLACEMENTS, [REQUEST])
    assert isinstance(refused, InvalidInputError)


def test_task_in_one_shard_is_answered_there_with_every_option(
    tmp_path: Path, collection: Path, services: Services, shards: Path, encoder: HashEncoder
) -> None:
    for name, tasks in (("a", ("notes",)), ("b", ("questions", "reviews"))):
        build(BuildConfig(tasks=collection, out=tmp_path / name, names=tasks, bm25=True), HashEncoder())
    place(tmp_path / "placements", {tmp_path / "a": ["http://a"], tmp_path / "b": ["http://b"]})
    request = RetrievalRequest(
        task="notes", input="a dull day", k=4, mode="hybrid", distinct=0.9, explain=True, label_head=None
    )
    with Retriever.open(tmp_path / "a", encoder=encoder) as one:
        (expected,) = one.answer([request])
        services.serve("a", one)
        (answered,) = ask(services, tmp_path / "placements", [request])
    assert isinstance(expected, Retrieval)
    assert [*answered] == [*expected]
    assert answered.decisions == expected.decisions
    (refused,) = ask(services, tmp_path / "placements", [RetrievalRequest(scope="all", input="monday")])
    assert "the shards have different families" in str(refused)


def test_demonstrations_are_read_from_their_shard(shards: Path, services: Services, retriever: Retriever) -> None:
    async def rows() -> list[Any]:
        placements = read_placements(shards / PLACEMENTS)
        async with ShardedClient(placements, transport=services.transport) as client:
            assert client.tasks == retriever.tasks
            found = [await client.demonstration("notes", f"n{n:02}") for n in range(20)]
            with pytest.raises(UnknownTaskError, match="no demonstration 'n99'"):
                await client.demonstration("notes", "n99")
            return found

    assert asyncio.run(rows()) == [retriever.demonstration("notes", f"n{n:02}") for n in range(20)]
