"""Queries whose scores follow from labels: learned from scores, judged by held-out ones, mixed into every draw."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.data import BatchSampler, ConcatDataset, SequentialSampler

from tests.training.trainer.small_trainings import Tasks
from udr.data import Pool, formatting
from udr.types import Row
from udr_training.candidates import Agreement, Candidates, RankedExample, rank_candidates
from udr_training.config import TrainConfig
from udr_training.trainer import TaskBatchSampler, TaskExamples, dataset, num_steps
from udr_training.trainer.extrapolation import extend, label_agreement, label_model, num_further


def extended_by_labels(folder: Path, task: TaskExamples, ids: Sequence[str], config: TrainConfig) -> TaskExamples:
    """Extend a task by its labels; all ``ids`` are candidates of a row, but its own."""
    return extend(
        folder / "reviews.json",
        task,
        lambda: label_model(task),
        lambda rows: {row.id: tuple(id for id in ids if id != row.id) for row in rows},
        config,
    )


@pytest.fixture
def task(examples: Tasks) -> TaskExamples:
    """A task with labels, where each demonstration with the query's target scores above all others.

    Five queries are held out, one more than in the fixture of other tests.
    """
    task = examples["reviews"]
    fifth = replace(task.validation[0], query_id=task.pool.rows[-1].id)
    targets = {row.id: row.target for row in task.pool.rows}

    def scored(given: tuple[RankedExample, ...]) -> tuple[RankedExample, ...]:
        return tuple(
            rank_candidates(
                each.query_id,
                {
                    id: 0.01 * n + (targets[id] == targets[each.query_id])
                    for n, id in enumerate(sorted(each.candidates))
                },
            )
            for each in given
        )

    return replace(task, training=scored(task.training), validation=scored((*task.validation, fifth)))


@pytest.fixture
def extended(task: TaskExamples) -> TaskExamples:
    model = label_model(task)
    assert model is not None
    ids = [row.id for row in task.pool.rows]
    further = model.scored({query: tuple(id for id in ids if id != query) for query in ids[12:15]})
    return replace(task, extrapolated=further)


def queries(rows: Iterable[str], pool: Pool) -> list[str]:
    by_text = {formatting.row_query(pool.task, row): row.id for row in pool.rows}
    return [by_text[text] for text in rows]


def test_a_model_holds_if_labels_explain_the_order_of_held_out_scores(task: TaskExamples) -> None:
    model = label_model(task)
    assert model is not None and model.agreement is not None and model.holds
    assert model.agreement.share == 1 >= model.least == 0.9
    turned = tuple(
        rank_candidates(each.query_id, {id: -score for id, score in zip(each.candidates, each.scores, strict=True)})
        for each in task.validation
    )
    against = label_model(replace(task, validation=turned))
    assert against is not None and not against.holds
    assert against.agreement == Agreement(0, model.agreement.pairs)
    alone = label_model(replace(task, validation=()))
    assert alone is not None and alone.agreement is None and not alone.holds
    assert (label_agreement(task), label_agreement(replace(task, validation=()))) == (1, None)


def test_a_share_just_too_low_is_told_as_such(
    task: TaskExamples, config: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = label_model(task)
    assert model is not None
    extend(
        tmp_path / "reviews.json", task, lambda: replace(model, agreement=Agreement(0.8957, 1234)), lambda _: {}, config
    )
    assert caplog.messages == [
        "task reviews: labels get 89.6% of the order of held-out scores right (1,234 pairs), less than 90.0%; "
        "no row is added"
    ]


@pytest.mark.parametrize(("num_queries", "wrong", "added"), [(1, 1, False), (4, 5, False), (5, 3, False), (5, 4, True)])
def test_a_perfect_order_of_a_few_held_out_pairs_is_chance(
    num_queries: int,
    wrong: int,
    added: bool,
    task: TaskExamples,
    config: TrainConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    labels = {row.id: row.target for row in task.pool.rows}

    def few(example: RankedExample) -> RankedExample:
        others = [id for id in example.candidates if labels[id] != labels[example.query_id]]
        return rank_candidates(example.query_id, {example.candidates[0]: 1.0, **dict.fromkeys(others[:wrong], 0.0)})

    judged = replace(task, validation=tuple(map(few, task.validation[:num_queries])))
    ids = tuple(labels)
    extended = extended_by_labels(tmp_path, judged, ids, config)
    few_pairs = "fewer than 20 pairs of candidates, of 5 held-out queries, can judge labels; no row is added"
    told = "labels get 100.0% of the order of held-out scores right (20 pairs); 8 more rows become queries"
    assert bool(extended.extrapolated) == added == (label_agreement(judged) == 1)
    assert caplog.messages == [f"task reviews: {told if added else few_pairs}"]


def test_equal_and_other_labels_alone_hold_where_pairs_of_labels_do_not(task: TaskExamples) -> None:
    """Training and held-out scores agree on the right label, and order the wrong ones the other way round."""
    labels = {f"{label}{n}": label for label in "abc" for n in range(4)}
    pool = Pool(task.pool.task, tuple(Row(id=id, input={}, target=label) for id, label in labels.items()))
    orders = {"a": "abc", "b": "bca", "c": "cab"}

    def scored(query: str, order: str) -> RankedExample:
        return rank_candidates(f"{query}0", {f"{label}1": 1 - 0.4 * place for place, label in enumerate(order)})

    training = tuple(scored(query, order) for query, order in orders.items())
    turned = tuple(scored(query, order[0] + order[:0:-1]) for query, order in orders.items())
    model = label_model(replace(task, pool=pool, training=training, validation=7 * turned))
    assert model is not None and model.agreement == Agreement(1, 7 * 3 * 2)
    (further,) = model.scored({"a2": ("c3", "a3", "b3")})
    assert further.candidates == ("a3", "b3", "c3") and further.scores == pytest.approx((1.0, 0.4, 0.4))
    alike = label_model(replace(task, pool=pool, training=training, validation=7 * training))
    assert alike is not None and alike.scored({"b2": ("a3", "b3", "c3")})[0].candidates == ("b3", "c3", "a3")


def test_further_queries_are_a_sample_of_a_pool_sorted_by_label(
    task: TaskExamples, config: TrainConfig, tmp_path: Path
) -> None:
    rows = [Row(id=f"{label}{n:02}", input={"text": f"{label} {n}"}, target=label) for label in "ab" for n in range(40)]
    pool = Pool(task.pool.task, tuple(rows))
    first = rank_candidates("a00", {"a01": 1.0, "b01": 0.0})
    scored = replace(task, pool=pool, training=(first,), validation=20 * (first,), later=())

    def proposed(asked: Sequence[Row]) -> Candidates:
        return {row.id: ("a01", "b01") for row in asked}

    config = replace(config, epochs=40)
    found = extend(tmp_path / "reviews.json", scored, lambda: label_model(scored), proposed, config).extrapolated
    labels = [example.query_id[0] for example in found]
    assert len(found) == 20 and 5 <= labels.count("a") <= 15


def test_no_further_query_is_a_copy_of_a_held_out_one_or_of_another(
    task: TaskExamples, config: TrainConfig, tmp_path: Path
) -> None:
    copies = tuple(replace(row, id=f"copy-{row.id}") for row in task.pool.rows)
    doubled = replace(task, pool=Pool(task.pool.task, (*task.pool.rows, *copies)))
    ids = tuple(row.id for row in task.pool.rows)
    found = extend(
        tmp_path / "reviews.json",
        doubled,
        lambda: label_model(doubled),
        lambda rows: {row.id: tuple(id for id in ids if id not in row.id) for row in rows},
        replace(config, epochs=40),
    ).extrapolated
    originals = [example.query_id.removeprefix("copy-") for example in found]
    # Of 24 inputs, 13 are those of scored queries.
    asked = {example.query_id for example in (*task.training, *task.validation)}
    assert sorted(originals) == sorted(set(ids) - asked) and len(originals) == 24 - 13


def test_a_task_without_labels_has_no_model(task: TaskExamples, pools: dict[str, Pool]) -> None:
    assert label_model(replace(task, pool=pools["reverse"])) is None


def test_every_draw_has_all_scored_queries_and_the_next_extrapolated_ones(
    task: TaskExamples, extended: TaskExamples, config: TrainConfig
) -> None:
    few = replace(extended, training=task.training[:2])
    ids = [row.id for row in task.pool.rows]
    data = dataset(few, replace(config, epochs=3), seed=0)
    asked = queries(data[:]["query"], task.pool)
    scored = [example.query_id for example in few.training]
    assert [asked[4 * draw : 4 * draw + 4] for draw in range(3)] == [
        [*scored, ids[12], ids[13]],
        [*scored, ids[14], ids[12]],
        [*scored, ids[13], ids[14]],
    ]


def test_no_batch_has_an_extrapolated_query_twice(task: TaskExamples, config: TrainConfig) -> None:
    """Draws take turns with the extrapolated queries, so that one may be at the end of a draw and early in the next."""
    model, ids = label_model(task), [row.id for row in task.pool.rows]
    assert model is not None
    further = model.scored({query: tuple(id for id in ids if id != query) for query in ids[12:15]})
    few = replace(task, training=task.training[:2], extrapolated=further)
    data = dataset(few, replace(config, epochs=3), seed=0)
    sampler = TaskBatchSampler(
        ConcatDataset([data]),
        [BatchSampler(SequentialSampler(data), 3, drop_last=False)],
        probabilities={"reviews": 1.0},
        num_draws=3,
        num_batches=400,
    )
    batches = [queries(data[batch]["query"], task.pool) for batch in sampler]
    assert all(len(batch) == len(set(batch)) == 3 for batch in batches)
    # Every row comes equally often: each query in each draw, and each further one in two of three.
    visits = Counter(query for batch in batches for query in batch)
    assert [visits[id] for id in ids[12:15]] == pytest.approx([200] * 3, abs=2)
    assert [visits[example.query_id] for example in few.training] == pytest.approx([300] * 2, abs=2)


@pytest.mark.parametrize("num_later", [0, 6])
def test_a_training_visits_all_rows_that_become_queries(
    num_later: int, task: TaskExamples, config: TrainConfig, tmp_path: Path
) -> None:
    """With eight training queries, four epochs and batches of four, half of 32 visits are to rows without scores."""
    config = replace(config, epochs=4)
    rows = tuple(Row(id=f"r{n:02}", input={"text": f"word {n}"}, target="ab"[n % 2]) for n in range(60))
    scored = tuple(rank_candidates(row.id, {f"r{n:02}": (n - 1) % 2 for n in range(56, 60)}) for row in rows[:20:2])
    large = replace(
        task,
        pool=Pool(task.pool.task, rows),
        training=scored[:8],
        validation=5 * scored[8:],
        later=tuple(replace(scored[0], query_id=f"r{n:02}") for n in range(20, 20 + 2 * num_later, 2)),
    )
    ids = [row.id for row in rows[55:]]
    found = extended_by_labels(tmp_path, large, ids, config)
    further = {example.query_id for example in found.extrapolated}
    assert len(further) == num_further(8, config) == 16
    data = dataset(found, config, seed=0)
    sampler = TaskBatchSampler(
        ConcatDataset([data]),
        [BatchSampler(SequentialSampler(data), config.batch_size, drop_last=False)],
        probabilities={"reviews": 1.0},
        num_draws=config.epochs,
        num_batches=num_steps(config, {"reviews": 8}),
    )
    texts = data[[row for batch in sampler for row in batch]]["query"]
    visited = Counter(id for id in queries(texts, large.pool) if id in further)
    # With later queries, one draw has 14 of each, and the training ends within the next.
    assert len(texts) == 32 and sum(visited.values()) == pytest.approx(16, abs=2 if num_later else 0)
    assert num_later or set(visited) == further


@pytest.mark.parametrize("same", [True, False])
def test_rows_without_a_candidate_of_their_label_are_left_out_and_told(
    same: bool, task: TaskExamples, config: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {row.id: row.target for row in task.pool.rows}
    one = task.training[0].query_id

    def propose(rows: Sequence[Row]) -> Candidates:
        wrong = {row.id: tuple(id for id in labels if labels[id] != row.target)[:3] for row in rows}
        return {row.id: (one, *wrong[row.id]) if same else wrong[row.id] for row in rows}

    file, total = tmp_path / "reviews.json", num_further(8, config)
    found = extend(file, task, lambda: label_model(task), propose, config).extrapolated
    assert all(labels[example.query_id] == labels[one] for example in found)
    assert 0 < len(found) < total if same else not found
    assert caplog.messages[-1].endswith(
        f"; {len(found)} more rows become queries; {total - len(found)} without a candidate of their label do not"
    )


def test_every_list_has_a_candidate_with_the_label_of_its_query(task: TaskExamples, config: TrainConfig) -> None:
    """One of eight candidates is right, and lists have three, so five of eight draws have wrong ones alone."""
    model, labels = label_model(task), {row.id: row.target for row in task.pool.rows}
    assert model is not None
    right = {query: next(id for id in labels if id != query and labels[id] == labels[query]) for query in labels}
    wrong = {query: [id for id in labels if labels[id] != labels[query]][:7] for query in labels}
    further = model.scored({query: (right[query], *wrong[query]) for query in list(labels)[12:]})
    mixed, config = replace(task, extrapolated=further), replace(config, list_length=3, epochs=20)
    # The positions of rows, not their texts; a reward model tells wrong candidates apart.
    plain, drawn = (
        dataset(mixed, replace(config, extrapolate=by), seed=0).with_format(None)[:] for by in ("reward", "labels")
    )
    ids, without = list(labels), 0
    for number, query in enumerate(ids[position] for position in drawn["query"]):
        before, after = ([ids[position] for position in data["candidates"][number]] for data in (plain, drawn))
        if query in ids[12:] and right[query] not in before:
            without += 1
            before[0] = right[query]
        assert after == before
        if query in ids[12:]:
            scores = drawn["label"][number][:3]
            assert labels[after[scores.index(max(scores))]] == labels[query]
    # Each of 20 draws has eight extrapolated queries.
    assert without / 160 == pytest.approx(5 / 8, abs=0.15)


def test_label_aware_training_tells_the_loss_the_targets(extended: TaskExamples, config: TrainConfig) -> None:
    length, pool = config.list_length, extended.pool
    data = dataset(extended, replace(config, label_aware=True), seed=0)[:]
    assert {len(label) for label in data["label"]} == {3 * length + 1}
    targets = {formatting.encoder_demonstration(pool.task, row): row.target for row in pool.rows}
    for number, label in enumerate(data["label"]):
        shown = [targets[data[f"candidate_{place}"][number]] for place in range(1, length + 1)]
        keys = label[2 * length + 1 :]
        assert all((keys[i] == keys[j]) == (shown[i] == shown[j]) for i in range(length) for j in range(length))
    assert {len(label) for label in dataset(extended, config, seed=0)[:]["label"]} == {2 * length + 1}
