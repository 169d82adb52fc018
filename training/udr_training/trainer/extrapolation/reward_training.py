"""The training of the reward model: the scores of a query's candidates, as a distribution."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from udr.errors import TrainingError
from udr.files import let_others_read, whole_folder
from udr_training.config import RunConfig, TrainConfig
from udr_training.losses import agreed, gathered, kl_loss, process_number, wait_for_all
from udr_training.trainer import (
    MetricsLog,
    SharedTraining,
    TaskExamples,
    WithoutCard,
    add_callbacks,
    dataset,
    last_complete,
    num_steps,
    shared_arguments,
)
from udr_training.trainer.extrapolation.reward_model import RewardModel

REWARD = "reward"
"""The folder of the trained model in an iteration's."""


def reward_config(config: RunConfig) -> TrainConfig:
    """Return the settings of a reward model's training: the encoder's, with its own number of visits."""
    return replace(config.train, epochs=config.reward.epochs, label_aware=False)


def train_reward(
    tasks: Mapping[str, TaskExamples],
    config: RunConfig,
    seed: int,
    folder: Path,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Train a reward model and save it as ``folder/reward``, which appears only when complete.

    The training writes ``folder/reward-metrics.jsonl`` and, until it ends, ``folder/reward-checkpoints``, from which it
    resumes. All processes of a group call this; the first one writes.

    Args:
        tasks: by name; their training queries are learned.
        config: the run's.
        seed: of initialisation, order, draws and dropout.
        folder: the iteration's.
        on_step: called with the steps done and all steps.

    Raises:
        ModelError: the model cannot be loaded.
        TrainingError: a step needs too much memory.
    """
    train = reward_config(config)
    torch.manual_seed(seed)
    reward = RewardModel.load(config)
    for task in tasks.values():
        reward.warn_of_long(task.pool, task.learned)
    num_queries = {name: len(task.learned) for name, task in tasks.items()}
    num_batches = num_steps(train, {name: len(task.training) for name, task in tasks.items()})
    checkpoints = folder / "reward-checkpoints"
    arguments = shared_arguments(train, seed, checkpoints, num_batches, num_queries)
    trainer = _Trainer(
        model=reward.model,
        args=CrossEncoderTrainingArguments(**arguments),
        train_dataset=DatasetDict({name: dataset(task, train, seed, gold=True) for name, task in tasks.items()}),
        loss=ScoreListLoss(reward.model, train.score_temperature),
    )
    trainer.shard(fsdp=train.fsdp)
    add_callbacks(trainer, MetricsLog(folder / "reward-metrics.jsonl", train.epochs), on_step)
    last = agreed(lambda: last_complete(checkpoints, config.reward.model or train.model))
    if process_number() > 0:
        # Another dropout on each process.
        torch.manual_seed(seed + process_number())
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"a step of the reward model's training needs more memory than {reward.model.device} has; to resume it "
            "with less, run the same command with more --processes, one per GPU, which share each step; or train into "
            "another --out with a smaller --batch-size"
        ) from error
    wait_for_all()
    model = trainer.gather()
    if process_number() > 0:
        return
    with whole_folder(folder / REWARD) as staging:
        model.save_pretrained(str(staging))
        let_others_read(staging)
    shutil.rmtree(checkpoints, ignore_errors=True)


class _Trainer(SharedTraining, WithoutCard, CrossEncoderTrainer):
    """The trainer of cross-encoders, on one process or several, without its card."""


class ScoreListLoss(nn.Module):
    """``kl_loss`` of a cross-encoder's outputs for a query's candidates, for ``CrossEncoderTrainer``.

    The outputs become scores / τ, apart from a constant for each query, so that they can stand in for scores.

    Args:
        model: the cross-encoder, with one output.
        score_temperature: τ, which divides scores.
    """

    def __init__(self, model: CrossEncoder, score_temperature: float) -> None:
        super().__init__()
        self.model, self.score_temperature = model, score_temperature

    def forward(
        self,
        inputs: Sequence[Sequence[str]],
        labels: Sequence[Tensor],
        prompt: str | None = None,
        task: str | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            inputs: the columns of queries and of candidates 1 to l, B texts each.
            labels: B labels of ``dataset``, of which the first l numbers are scores.
            prompt: unused.
            task: unused.
        """
        queries, *candidates = inputs
        pairs = [(query, other) for query, *others in zip(queries, *candidates, strict=True) for other in others]
        features: Any = batch_to_device(self.model.preprocess(pairs), self.model.device)
        outputs = self.model(features)["scores"].float().view(len(queries), len(candidates))
        scores = torch.stack([label[: len(candidates)] for label in labels]).to(outputs.device)
        outputs, scores = gathered(outputs, scores)
        return kl_loss(outputs, scores, self.score_temperature)
