"""Planning a run: its rates are measured, and nothing is written."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from udr.data import Collection, Kind, Pool, formatting
from udr.errors import ConfigError
from udr_training.candidates import Candidates, first_neighbours, later_counts, rank_all
from udr_training.config import RunConfig
from udr_training.feedback import FeedbackLM, FeedbackStore, TrainingTask, load_lm, pair_keys, pair_score
from udr_training.run_folder import RunFolder
from udr_training.runs.plan import RewardPlan, RunPlan, TaskPlan, clock
from udr_training.runs.throughput import pairs_per_second, reward_rates, seconds_per_step
from udr_training.trainer import check_optimizer, check_processes, num_steps, split, starting_model
from udr_training.trainer.extrapolation import label_agreement, num_further, reward_config

# Queries whose candidates are proposed for the first estimate.
_QUERIES = 4


def plan_run(
    path: Path,
    collection: Collection,
    config: RunConfig,
    feedback: Path | None = None,
    on_estimate: Callable[[str], None] = lambda _: None,
    processes: int = 1,
    load: Callable[[], FeedbackLM] | None = None,
) -> RunPlan:
    """Measure the cost of a run; nothing is written. Arguments and errors are those of ``Run``.

    The directory and the file of scores need not exist; existing scores cost nothing. ``on_estimate`` is called with
    what is known so far: first as soon as a few pairs are scored, then at each better measurement. ``load`` returns the
    language model, if it is needed elsewhere, too.
    """
    if config.feedback.is_told:
        raise ConfigError("--dry-run measures a language model, and feedback.kind 'outcomes' asks none; leave it out")
    check_optimizer(config.train.optimizer)
    train, folder = config.train, RunFolder(path)
    if (path / "config.toml").exists():
        folder.check(config)
    tasks = {name: TrainingTask.sample(task, config, train.list_length) for name, task in collection.tasks.items()}
    check_processes(processes, config, {name: len(task.queries) for name, task in tasks.items()})
    neighbours = {name: first_neighbours(task.pool) for name, task in tasks.items()}
    lm = load_lm(config.feedback) if load is None else load()
    store, rates, later = folder.scores(feedback), dict[str, float](), _later(tasks, config, dict.fromkeys(tasks))
    shown = config.candidates.num_candidates
    most = {name: len(task.queries) * _possible(shown, task.pool) + later[name][1] for name, task in tasks.items()}
    for name, task in tasks.items():
        some = task.pairs(task.propose(neighbours[name], task.queries[:_QUERIES]))
        for count, rate in pairs_per_second(lm, some):
            rates[name] = rate
            seconds = sum(pairs / rates.get(own, rate) for own, pairs in most.items())
            on_estimate(f"feedback: at most {clock(seconds)} if no score is stored, by {count} pairs of {name}")
    proposed = {name: task.propose(neighbours[name]) for name, task in tasks.items()}
    plans = tuple(_task_plan(tasks[name], proposed[name], lm, store, config, rates[name]) for name in tasks)
    plans = _with_later(plans, tasks, config)
    steps = num_steps(train, {name: train.num_learned(len(task.queries)) for name, task in tasks.items()})
    model, step = starting_model(train, train.model), 0.0
    # Without GPUs, processes share the cores, and take as long as one.
    size = math.ceil(train.batch_size / processes) if model.device.type == "cuda" else train.batch_size
    share = replace(config, train=replace(train, batch_size=size))
    for count, step in seconds_per_step(model, tasks, proposed, share):
        training = clock(train.iterations * steps * step)
        on_estimate(f"training: {training}, by {count} of the {size} queries of a step")
    reward = _reward_plan(tasks, proposed, plans, config)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    # A model per iteration, the reward model and the final copy; three checkpoints with the optimizer's two moments.
    models = train.iterations + (reward is not None) + 1 + 3 * 3
    return RunPlan(
        tasks=plans,
        iterations=train.iterations,
        steps=steps,
        seconds_per_step=step,
        processes=processes,
        reward=reward,
        disk_bytes=round(sum(_score_bytes(plan, tasks[plan.task].pool) for plan in plans)) + weights * models,
    )


def _score_bytes(plan: TaskPlan, pool: Pool) -> float:
    """Return the size of a task's scores, at most."""
    options = max(len(formatting.targets(pool.task, row)) for row in pool.rows)
    return FeedbackStore.most_bytes(plan.pairs + plan.later_pairs, plan.queries + plan.later_queries, options)


def _later(
    tasks: Mapping[str, TrainingTask], config: RunConfig, explained: Mapping[str, float | None]
) -> dict[str, tuple[int, int]]:
    """Return the new queries of all later iterations, and the pairs that these score at most, by task.

    ``explained`` is what labels explain of the order, by which queries are allocated.
    """
    candidates, iterations = config.candidates, config.train.iterations - 1
    if candidates.later == "same":
        # All but the random candidates may be new, as far as the pool goes.
        shown = candidates.num_candidates
        total = shown + iterations * (shown - candidates.num_random)
        each = {name: _possible(total, task.pool) - _possible(shown, task.pool) for name, task in tasks.items()}
        return {name: (0, each[name] * len(task.queries)) for name, task in tasks.items()}
    wanted = {name: iterations * task.num_later for name, task in tasks.items()}
    left = {name: _num_left(task) for name, task in tasks.items()}
    counts = later_counts(candidates.later, wanted, left, explained)
    return {
        name: (count, count * _possible(candidates.num_candidates, tasks[name].pool)) for name, count in counts.items()
    }


def _possible(count: int, pool: Pool) -> int:
    """Return how many candidates of a query there are, at most ``count``: all rows but itself."""
    return min(count, len(pool) - 1)


def _num_left(task: TrainingTask) -> int:
    """Return how many rows can become queries, beside those of the first iteration."""
    return task.num_unasked({row.id for row in task.queries})


def _with_later(
    plans: Sequence[TaskPlan], tasks: Mapping[str, TrainingTask], config: RunConfig
) -> tuple[TaskPlan, ...]:
    """Return the plans with the queries and pairs of later iterations."""
    unknown = any(plan.labels and plan.stored < plan.pairs for plan in plans)
    later = _later(tasks, config, {plan.task: None if unknown else plan.agreement for plan in plans})
    counts = [(plan, *later[plan.task]) for plan in plans]
    return tuple(replace(plan, later_queries=queries, later_pairs=pairs) for plan, queries, pairs in counts)


def _reward_plan(
    tasks: Mapping[str, TrainingTask],
    proposed: Mapping[str, Candidates],
    plans: Sequence[TaskPlan],
    config: RunConfig,
) -> RewardPlan | None:
    if config.train.extrapolate != "reward":
        return None
    train = reward_config(config)
    step, rate = reward_rates(tasks, proposed, config)
    # It is judged by all candidates of held-out queries, before it scores those of further rows.
    pairs = 0
    for plan in plans:
        held_out = plan.queries - train.num_learned(plan.queries)
        later = 0 if plan.later_queries else plan.later_pairs // plan.queries
        further = plan.extrapolated * _possible(config.reward.candidates, tasks[plan.task].pool)
        pairs += held_out * (plan.candidates + later) + further
    return RewardPlan(
        steps=num_steps(train, {name: train.num_learned(len(task.queries)) for name, task in tasks.items()}),
        seconds_per_step=step,
        pairs=pairs,
        pairs_per_second=rate,
    )


def _task_plan(
    task: TrainingTask, proposed: Candidates, lm: FeedbackLM, store: Path, config: RunConfig, rate: float
) -> TaskPlan:
    pairs, stored, agreement = task.pairs(proposed), 0, None
    keyed = list(zip(pairs, pair_keys(pairs), strict=True))
    labels = task.pool.task.kind is Kind.CLASSIFICATION
    by_labels = config.train.extrapolate == "labels" and labels
    judged = by_labels or (labels and config.candidates.later == "allocated")
    if store.exists():
        with FeedbackStore(store, lm.fingerprint, lm.dtype, formatting.LM_WORDING, read_only=True) as scores:
            known = scores.get({key for _, key in keyed})
        stored = sum(key in known for _, key in keyed)
        if judged and stored == len(keyed):
            examples = rank_all(
                {(pair.query.id, pair.demonstration.id): pair_score(pair, known[key]) for pair, key in keyed}
            )
            agreement = label_agreement(split(task.pool, examples, config.train))
    num_queries, train, further = len(task.queries), config.train, 0
    if by_labels or train.extrapolate == "reward":
        further = min(_num_left(task), num_further(train.num_learned(num_queries), train))
    return TaskPlan(
        task=task.pool.task.name,
        labels=labels,
        pool=len(task.pool),
        queries=num_queries,
        candidates=max(map(len, proposed.values())),
        pairs=len(keyed),
        stored=stored,
        pairs_per_second=rate,
        extrapolated=further,
        agreement=agreement,
    )
