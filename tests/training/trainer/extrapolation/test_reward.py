"""The reward model: what it reads, what it learns from synthetic scores, and when its scores are used."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.trainer.small_trainings import Tasks, out_of_memory
from udr.data import Kind, Metric, Pool, Task, Template, formatting
from udr.errors import ModelError, TrainingError
from udr.types import Row
from udr_training.candidates import Agreement, Candidates, rank_candidates
from udr_training.config import RewardConfig, RunConfig, TrainConfig
from udr_training.trainer import TaskExamples, dataset, split
from udr_training.trainer.extrapolation import RewardModel, ScoreListLoss, ScoreModel, extend, rewards, train_reward

WORDS = "ab cd ef gh ij kl mn".split()
HELPS = "ab"


@pytest.fixture(scope="module")
def pool() -> Pool:
    """A generation task, which has no labels."""
    rows = [
        Row(id=f"r{n:02}", input={"w": f"{WORDS[n * 5 % 7]} {WORDS[n * 3 % 5]} {n // 35}"}, target=WORDS[n % 3])
        # No two are copies of each other.
        for n in range(50)
    ]
    task = Task(
        name="words",
        family="words",
        kind=Kind.GENERATION,
        instruction="Do.",
        input=Template("W: {w}"),
        output=Template("O: {target}"),
        metric=Metric.EXACT_MATCH,
    )
    return Pool(task, tuple(rows))


@pytest.fixture(scope="module")
def config(encoder_folder: Path) -> RunConfig:
    train = TrainConfig(
        model=str(encoder_folder),
        extrapolate="reward",
        validation=0.25,
        epochs=1,
        batch_size=30,
        list_length=4,
        learning_rate=5e-3,
        max_tokens=64,
    )
    return RunConfig(train=train, reward=RewardConfig(candidates=5, epochs=16))


@pytest.fixture(scope="module")
def task(pool: Pool, config: RunConfig) -> TaskExamples:
    """Forty queries, for which exactly the demonstrations with one word help."""
    examples = []
    for number, query in enumerate(pool.rows[:40]):
        others = [pool.rows[(number + step) % 50] for step in range(1, 9)]
        examples.append(rank_candidates(query.id, {row.id: helps(row) for row in others}))
    return split(pool, examples, config.train)


def helps(row: Row) -> float:
    return 0.2 + 0.5 * (HELPS in str(row.input["w"]))


@pytest.fixture(scope="module")
def trained(task: TaskExamples, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("iteration-0")
    train_reward({"words": task}, config, 0, folder)
    return folder


@pytest.fixture
def reward(task: TaskExamples, config: RunConfig, trained: Path) -> ScoreModel:
    return rewards({"words": task}, config, trained / "reward", config.train.model)["words"]


@pytest.fixture
def model(config: RunConfig, trained: Path) -> RewardModel:
    return RewardModel.load(config, trained / "reward")


def proposed(pool: Pool) -> Callable[..., Candidates]:
    ids = tuple(row.id for row in pool.rows[:5])
    return lambda rows: {row.id: ids for row in rows}


def test_held_out_candidates_are_ordered_far_better_than_by_chance(reward: ScoreModel) -> None:
    assert reward.holds and reward.agreement is not None
    assert reward.agreement.share > 0.85 > reward.least >= 0.6


def test_scores_are_the_outputs_on_the_scale_of_those_learned(model: RewardModel, pool: Pool) -> None:
    rows = {row.id: row for row in pool.rows}
    query = formatting.encoder_demonstration(pool.task, rows["r49"])
    outputs = model.model.predict([(query, formatting.solved_text(pool.task, rows[id])) for id in ("r00", "r01")])
    # The loss learns scores / 0.1.
    scores = model.scores(pool, {"r49": ("r00", "r01")})["r49"]
    assert list(scores.values()) == pytest.approx([0.1 * float(output) for output in outputs], abs=1e-6)


def test_pool_rows_become_queries_with_the_models_scores_once(
    reward: ScoreModel, model: RewardModel, task: TaskExamples, config: RunConfig, tmp_path: Path
) -> None:
    file, train = tmp_path / "extrapolated" / "words.json", config.train
    extended = extend(file, task, lambda: reward, proposed(task.pool), train)
    assert sorted(example.query_id for example in extended.extrapolated) == [f"r{n}" for n in range(40, 50)]
    first = extended.extrapolated[0]
    scores = model.scores(task.pool, {first.query_id: first.candidates})[first.query_id]
    assert first.scores == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-5)

    def fail() -> ScoreModel:
        raise AssertionError("computed again")

    assert extend(file, task, fail, proposed(task.pool), train) == extended
    # They reach the training: one draw of its 30 scored queries, and of these 10.
    assert len(dataset(extended, train, seed=0)) == 30 + 10


def test_a_model_that_orders_no_better_than_the_encoder_is_not_used(
    reward: ScoreModel, task: TaskExamples, config: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weak = replace(reward, agreement=Agreement(0.7, 150), least=0.72)
    assert extend(tmp_path / "words.json", task, lambda: weak, proposed(task.pool), config.train) == task
    assert (
        "get 70.0% of the order of held-out scores right (150 pairs), less than 72.0%; no row is added" in caplog.text
    )


def test_it_is_not_used_where_no_query_is_held_out(
    task: TaskExamples, config: RunConfig, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A task of five queries holds out none of them."""
    few = replace(task, validation=())
    judged = rewards({"few": few, "words": task}, config, trained / "reward", config.train.model)
    assert judged["words"].holds and not judged["few"].holds
    extended = extend(tmp_path / "few.json", few, lambda: judged["few"], proposed(few.pool), config.train)
    assert extended == few and "no query is held out to judge the reward model's scores; no row is added" in caplog.text


def test_it_reads_the_gold_answer_of_the_query_and_the_candidate(task: TaskExamples, config: RunConfig) -> None:
    shown = dataset(task, config.train, seed=0, gold=True)[:1]
    row = next(row for row in task.pool.rows if row.id == task.training[0].query_id)
    assert shown["query"] == [f"Do.\nW: {row.input['w']}\nO: {row.target}"]
    assert shown["candidate_1"][0] in {formatting.solved_text(task.pool.task, row) for row in task.pool.rows}


def test_an_interrupted_training_resumes_with_the_same_result(
    task: TaskExamples, config: RunConfig, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, steps = ScoreListLoss.forward, list[int]()

    def interrupted(self: ScoreListLoss, *columns: object, **options: object) -> object:
        steps.append(1)
        if len(steps) == 11:
            raise KeyboardInterrupt
        return forward(self, *columns, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ScoreListLoss, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_reward({"words": task}, config, 0, tmp_path)
    assert not (tmp_path / "reward").exists()
    train_reward({"words": task}, config, 0, tmp_path)
    assert len(steps) < 2 * 16 and not (tmp_path / "reward-checkpoints").exists()
    candidates = {"r00": ("r01", "r02", "r03")}
    one, other = (
        RewardModel.load(config, path / "reward").scores(task.pool, candidates) for path in (trained, tmp_path)
    )
    assert one["r00"] == pytest.approx(other["r00"], abs=1e-5)
    logged = [json.loads(line)["step"] for line in (tmp_path / "reward-metrics.jsonl").read_text("utf-8").splitlines()]
    assert logged == sorted(set(logged))


def test_a_step_that_memory_is_too_small_for_is_told(
    task: TaskExamples, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScoreListLoss, "forward", out_of_memory)
    with pytest.raises(TrainingError, match=r"reward model's training needs more memory than cpu has; .* --processes"):
        train_reward({"words": task}, config, 0, tmp_path)


def test_pairs_that_are_cut_are_counted(
    task: TaskExamples, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    short = replace(config, train=replace(config.train, max_tokens=10))
    RewardModel.load(short).warn_of_long(task.pool, task.training)
    assert "task words: 240 of 240 pairs are longer than the reward model's 20 tokens" in caplog.text


def test_a_folder_without_a_transformer_is_refused(config: RunConfig, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "reward", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot become a reward model: .*; name a transformer with reward.model"):
        RewardModel.load(replace(config, reward=RewardConfig(model=str(tmp_path / "model"))))


def test_scores_of_two_tasks_are_learned_together(
    examples: Tasks,
    config: RunConfig,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = replace(config, reward=RewardConfig(epochs=1))
    forward, learned = ScoreListLoss.forward, Counter[str]()

    def counted(self: ScoreListLoss, inputs: Sequence[Sequence[str]], *labels: Any, **options: Any) -> Any:
        learned.update(query.partition("\n")[0] for query in inputs[0])
        return forward(self, inputs, *labels, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ScoreListLoss, "forward", counted)
        train_reward(examples, both, 0, tmp_path)
    # Each query begins with its task's instruction, and is learned as often as one training on all of them visits it.
    assert learned == {task.pool.task.instruction: len(task.training) for task in examples.values()}
    judged = rewards(examples, both, tmp_path / "reward", both.train.model)
    assert judged.keys() == examples.keys()
    # WithoutCard, as for the encoder.
    assert "widget" not in capfd.readouterr().err
