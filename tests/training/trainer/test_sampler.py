"""Batches: tasks by probability, no query twice in a batch, draws by seed."""

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from torch.utils.data import ConcatDataset

from udr_training.candidates import RankedExample, rank_candidates, ranks
from udr_training.trainer import TaskBatchSampler, draw_candidates, task_probabilities

EXAMPLE = RankedExample("q", tuple("abcdef"), (0.9, 0.7, 0.7, 0.4, 0.2, 0.1))


class Inner:
    """In place of the samplers that the trainer makes for each dataset."""

    batch_size, drop_last = 4, False


def sampler(
    sizes: dict[str, int],
    num_draws: int = 2,
    num_batches: int = 2000,
    seed: int = 0,
    num_datasets: int | None = None,
    num_parts: int = 1,
    copies: int = 1,
) -> TaskBatchSampler:
    queries = [list(range(size)) * num_draws for size in sizes.values()][:num_datasets]
    datasets = [Dataset.from_dict({"query": own}) for own in queries]
    return TaskBatchSampler(
        ConcatDataset(datasets),
        [Inner() for _ in datasets],  # type: ignore[misc]
        seed=seed,
        probabilities=task_probabilities(sizes, 0.5),
        num_draws=num_draws,
        num_batches=num_batches,
        num_parts=num_parts,
        copies=copies,
    )


def test_tasks_are_drawn_with_their_number_of_queries_to_the_power_alpha() -> None:
    assert task_probabilities({"a": 100, "b": 400}, 0.5) == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert task_probabilities({"a": 100, "b": 400}, 0.0) == pytest.approx({"a": 0.5, "b": 0.5})
    sizes = {"large": 400, "small": 16, "middle": 100}
    ends = np.cumsum([2 * size for size in sizes.values()])
    drawn = Counter(list(sizes)[int(np.searchsorted(ends, batch[0], side="right"))] for batch in sampler(sizes))
    for name, probability in task_probabilities(sizes, 0.5).items():
        # Four standard deviations of 2000 draws.
        assert drawn[name] / 2000 == pytest.approx(probability, abs=4 * np.sqrt(probability * (1 - probability) / 2000))


def test_a_batch_has_one_task_and_no_query_twice() -> None:
    for batch in sampler({"a": 10, "b": 7}, num_batches=300):
        assert len({row < 20 for row in batch}) == 1
        start, size = (0, 10) if batch[0] < 20 else (20, 7)
        assert len({(row - start) % size for row in batch}) == len(batch) == 4
    # A task smaller than a batch has smaller batches.
    assert {len(batch) for batch in sampler({"a": 3}, num_batches=5)} == {3}


def test_every_query_comes_once_before_any_repeats() -> None:
    # Ten queries in batches of four: the third batch has the last two of one pass and the first two of the next.
    rows = [row for batch in sampler({"a": 10}, num_draws=3, num_batches=15) for row in batch]
    assert len(rows) == 60
    counts = [Counter(row % 10 for row in rows[:end]) for end in (10, 20, 30)]
    assert counts == [Counter({query: passes for query in range(10)}) for passes in (1, 2, 3)]
    # The passes use the draws in turn, and start over after the last.
    assert [row // 10 for row in rows[:10:9]] == [0, 0] and rows[15] // 10 == 1 and rows[35] // 10 == 0


def test_seed_and_epoch_determine_the_order_of_as_many_tasks_as_probabilities() -> None:
    first, same, other, later = (sampler({"a": 40, "b": 9}, num_batches=20, seed=seed) for seed in (1, 1, 2, 1))
    later.set_epoch(1)
    assert list(first) == list(same) != list(other)
    assert list(first) != list(later)
    with pytest.raises(ValueError, match="2 probabilities for 1 tasks"):
        sampler({"a": 1, "b": 1}, num_datasets=1)


def test_draws_repeat_by_seed_and_differ_by_number() -> None:
    first, again = ([draw_candidates(EXAMPLE, 4, number, seed=0) for number in range(20)] for _ in range(2))
    assert first == again and len(set(first)) > 5
    assert all(len(set(chosen)) == 4 and set(chosen) <= set(range(6)) for chosen in first)
    with pytest.raises(ValueError, match="'q' has 6 candidates, fewer than the 7"):
        draw_candidates(EXAMPLE, 7, 0, 0)


def test_a_stratified_draw_has_one_of_the_best_and_one_of_the_worst_tenth() -> None:
    example = RankedExample("q", tuple(map(str, range(40))), tuple(-float(number) for number in range(40)))
    seen = [draw_candidates(example, 6, number, seed=0, stratified=True) for number in range(60)]
    for chosen in seen:
        assert len(set(chosen)) == 6
        assert sum(position < 4 for position in chosen) == sum(position >= 36 for position in chosen) == 1
    assert {position for chosen in seen for position in chosen} == set(range(40))
    # A short list has too few in between.
    for number in range(9):
        chosen = draw_candidates(EXAMPLE, 5, number, seed=0, stratified=True)
        assert len(set(chosen)) == 5 and {0, 5} <= set(chosen)


@pytest.mark.parametrize("stratified", [False, True])
def test_a_draw_without_any_of_the_needed_gets_one_in_place_of_its_first(stratified: bool) -> None:
    example = RankedExample("q", tuple(map(str, range(40))), tuple(-float(number) for number in range(40)))
    needed, added = (2, 17, 30), set[int]()
    for number in range(60):
        plain = draw_candidates(example, 6, number, 0, stratified=stratified)
        chosen = draw_candidates(example, 6, number, 0, stratified=stratified, needed=needed)
        if set(needed) & set(plain):
            assert chosen == plain
        else:
            assert chosen[0] in needed and chosen[1:] == plain[1:]
            added.add(chosen[0])
    assert added == set(needed)


def test_candidates_are_ranked_by_score_then_id() -> None:
    assert ranks([0.5, 0.9, 0.5, 0.1]) == [2, 1, 2, 4]
    example = rank_candidates("q", {"b": 0.5, "a": 0.5, "c": 0.9})
    assert example.candidates == ("c", "a", "b") and example.scores == (0.9, 0.5, 0.5)


def test_processes_share_the_batches_of_one_process() -> None:
    sizes = {"a": 10, "b": 5}
    whole, shared = list(sampler(sizes, num_batches=50)), sampler(sizes, num_batches=50, num_parts=3)
    parts = list(shared)
    assert len(shared) == len(parts) == 150 and {len(part) for part in parts} == {1, 2}
    # The trainer gives each process every third.
    assert [[*one, *two, *three] for one, two, three in zip(parts[::3], parts[1::3], parts[2::3], strict=True)] == whole
    repeated = sampler(sizes, num_batches=50, num_parts=3, copies=2)
    assert list(repeated) == [part for part in parts for _ in range(2)] and len(repeated) == 300
    with pytest.raises(ValueError, match="a batch of 3 queries cannot be shared by 4 processes"):
        sampler({"a": 10, "b": 3}, num_parts=4)
