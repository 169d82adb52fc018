"""The scheduler with workers that die and fail on command: what is done, how often, and what is reported."""

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

import pytest

from tests.udr.models.runner.fake_pool import FakePool
from udr.errors import ModelError
from udr.models.runner import QUEUED, TRIES, Answer, Hello, Lost, Scheduler, Shard, failed, shard_key

KEYS = [f"shard-{number}" for number in range(12)]


def shards(taken: list[str] | None = None) -> Iterator[Shard[int]]:
    for number, key in enumerate(KEYS):
        if taken is not None:
            taken.append(key)
        yield Shard(key, number, (f"row-{number}", f"other-{number}"))


class Square:
    """Squares numbers, and counts how often it did each; some it refuses."""

    def __init__(self, refused: tuple[int, ...] = ()) -> None:
        self.done, self._refused = Counter[int](), refused

    def __call__(self, number: int) -> int:
        if number in self._refused:
            raise ValueError(f"cannot square {number}")
        self.done[number] += 1
        return number**2

    def load(self) -> tuple[str, "Square"]:
        return "square", self


def results(scheduler: Scheduler[int, int]) -> dict[str, int]:
    done = list(scheduler.run(shards()))
    assert len({item.shard.key for item in done}) == len(done)
    return {item.shard.key: item.result for item in done}


ALL = {key: number**2 for number, key in enumerate(KEYS)}


def test_each_shard_is_done_once_and_no_more_are_taken_than_workers_have_room_for() -> None:
    square, taken = Square(), list[str]()
    pool = FakePool(2, square.load)
    scheduler = Scheduler[int, int](lambda: pool, "square")
    done = scheduler.run(shards(taken))
    first = next(done)
    assert len(taken) == 2 * QUEUED
    rest = {item.shard.key: item.result for item in [first, *done]}
    assert rest == ALL and set(square.done.values()) == {1} and pool.longest == QUEUED
    assert scheduler.failures == [] and "2 of 2 workers" in scheduler.note


def test_without_work_no_worker_is_started() -> None:
    def unwanted() -> FakePool:
        raise AssertionError("opened")

    assert list(Scheduler[int, int](unwanted, "square").run([])) == []


def test_a_worker_that_dies_costs_its_own_shard_a_try_and_repeats_nothing_that_was_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    square, deaths = Square(), ["shard-4", "shard-7"]

    def dies(number: int, key: str) -> bool:
        if key in deaths:
            deaths.remove(key)
            return True
        return False

    scheduler = Scheduler[int, int](lambda: FakePool(3, square.load, dies), "square")
    assert results(scheduler) == ALL
    assert set(square.done.values()) == {1} and not deaths and scheduler.failures == []
    blamed = re.findall(r"part (\S+) failed and is tried again: the worker on node-\d died: killed", caplog.text)
    assert blamed == ["shard-4", "shard-7"]


def test_a_worker_that_never_comes_back_leaves_its_shards_to_the_others() -> None:
    square = Square()
    lost = Lost("its machine is off")
    pool = FakePool(2, square.load, lambda number, key: number == 1, [None, None, *[lost] * TRIES])
    scheduler = Scheduler[int, int](lambda: pool, "square")
    assert results(scheduler) == ALL and set(square.done.values()) == {1} and "1 of 1 workers" in scheduler.note


@pytest.mark.parametrize("how", ["dies", "fails"])
def test_a_shard_that_fails_each_time_is_reported_by_rows_and_the_rest_goes_on(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    square = Square(refused=(5,) if how == "fails" else ())
    pool = FakePool(2, square.load, lambda _, key: how == "dies" and key == "shard-5")
    scheduler = Scheduler[int, int](lambda: pool, "square")
    assert results(scheduler) == {key: value for key, value in ALL.items() if key != "shard-5"}
    assert set(square.done.values()) == {1}
    (failure,) = scheduler.failures
    assert failure.rows == ("row-5", "other-5")
    assert ("cannot square 5" if how == "fails" else "killed") in failure.reason
    assert f"failed {TRIES} times" in caplog.text and "its rows: row-5, other-5" in caplog.text
    with pytest.raises(Exception, match=r"2 rows failed on every try.*row-5, other-5; run the command again to go on"):
        raise failed(scheduler.failures, "rows")


def test_the_rest_is_done_even_if_the_only_worker_dies_for_good_of_the_last_one_that_it_has() -> None:
    class AtOnce(FakePool):
        """Tells all that its worker did in one answer, its death included, so that then nobody works."""

        def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Hello | Answer | Lost]]:
            events = super().wait(tickets, seconds)
            while any(self.queues.values()):
                events += super().wait(tickets, seconds)
            return events

    square = Square()
    pool = AtOnce(1, square.load, lambda _, key: key == f"shard-{QUEUED - 1}")
    scheduler = Scheduler[int, int](lambda: pool, "square")
    expected = {key: value for key, value in ALL.items() if key != f"shard-{QUEUED - 1}"}
    assert results(scheduler) == expected and set(square.done.values()) == {1}
    assert [failure.rows for failure in scheduler.failures] == [(f"row-{QUEUED - 1}", f"other-{QUEUED - 1}")]


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        (Hello("far", "0", "circle"), "worker on far holds circle, udr 0, but this process square, udr"),
        (Hello("far", "0", error="no such file"), "worker on far cannot load the model: no such file"),
    ],
)
def test_a_worker_with_another_model_or_none_ends_the_work(hello: Hello, message: str) -> None:
    scheduler = Scheduler[int, int](lambda: FakePool(2, Square().load, starts=[None, hello]), "square")
    with pytest.raises(ModelError, match=message):
        list(scheduler.run(shards()))


def test_without_a_worker_that_starts_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool(2, Square().load, starts=[Lost("no memory")] * 2 * TRIES)
    with pytest.raises(ModelError, match="no worker could be started; the last one died: no memory"):
        list(Scheduler[int, int](lambda: pool, "square").run(shards()))

    class Silent(FakePool):
        def wait(self, *_: object) -> list[tuple[Hashable, Hello | Answer | Lost]]:
            return []

    silent = Scheduler[int, int](lambda: Silent(1, Square().load), "square", patience=0.0)
    with pytest.raises(ModelError, match="no worker has its model after 0 s: a fake pool"):
        list(silent.run(shards()))


def test_what_workers_warn_of_is_said_once_and_keys_tell_contents_apart(caplog: pytest.LogCaptureFixture) -> None:
    results(Scheduler[int, int](lambda: FakePool(2, Square().load), "square"))
    assert caplog.text.count("a notice (on node-") == 1
    contents: list[Sequence[str | bytes]] = [["ab", "c"], ["a", "bc"], [b"ab", "c"], ["abc"]]
    keys = {shard_key(parts) for parts in contents}
    assert len(keys) == 3
