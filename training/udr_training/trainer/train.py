"""One training of the encoder: from examples of many tasks to a model folder."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from transformers import EarlyStoppingCallback, TrainerState
from transformers.training_args import OptimizerNames

from udr.data import formatting
from udr.errors import ConfigError, TrainingError, reason
from udr.files import let_others_read, whole_folder
from udr.models import RECORD, RECORD_FORMAT
from udr_training.config import TrainConfig, updates_while_backward
from udr_training.losses import (
    CandidateLoss,
    agreed,
    data_rank,
    data_size,
    form_tensor_groups,
    num_processes,
    process_number,
    tensor_size,
    wait_for_all,
)
from udr_training.trainer.callbacks import MetricsLog, WithoutCard, add_callbacks, tensorboard
from udr_training.trainer.checkpoints import last_complete
from udr_training.trainer.dataset import TaskExamples, dataset
from udr_training.trainer.evaluator import BEST, RankValidation
from udr_training.trainer.model import has_two_towers, merge_adapters, starting_model
from udr_training.trainer.sampler import TaskBatchSampler, task_probabilities
from udr_training.trainer.sharing import SharedTraining

_LOG = logging.getLogger(__name__)

_MIN_CHECKPOINTS = 5
"""Limits what an interruption loses."""


def train_encoder(
    tasks: Mapping[str, TaskExamples],
    config: TrainConfig,
    seed: int,
    start: str,
    folder: Path,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Train an encoder and save it as ``folder/model``, which appears only when complete.

    The training writes ``folder/metrics.jsonl`` (see ``MetricsLog``) and, until it ends, ``folder/checkpoints``, from
    which it resumes. The model is the one with the best validation NDCG, or the last without validation queries. All
    processes of a group call this (see ``train_on``); the first one writes.

    Args:
        tasks: by name.
        config: the training's.
        seed: of initialisation, order, draws and dropout; on a CPU, the same seed gives the same model.
        start: the model to start from.
        folder: the iteration's; ``SentenceTransformer(folder / "model")`` opens the model.
        on_step: called with the steps done and all steps.

    Raises:
        ConfigError: the optimizer is unknown or its package is missing, or the encoder does not support a setting.
        TrainingError: a step needs too much memory.
    """
    check_optimizer(config.optimizer)
    torch.manual_seed(seed)
    model = starting_model(config, start)
    form_tensor_groups(config.tensor_parallel, model.device.type)
    num_queries = {name: len(task.learned) for name, task in tasks.items()}
    num_batches = num_steps(config, {name: len(task.training) for name, task in tasks.items()})
    validation = RankValidation(tasks)
    validates = bool(validation.tasks)
    checkpoints = folder / "checkpoints"
    last = agreed(lambda: last_complete(checkpoints, start))
    arguments = _arguments(model, config, seed, checkpoints, num_batches, num_queries, validates=validates)
    # The untrained encoder is evaluated once, before the first step.
    arguments.eval_on_start = validates and last is None
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=DatasetDict({name: dataset(task, config, seed) for name, task in tasks.items()}),
        evaluator=validation if validates else None,
        loss=CandidateLoss.of(model, config),
    )
    trainer.shard(fsdp=config.fsdp)
    add_callbacks(trainer, MetricsLog(folder / "metrics.jsonl", config.epochs), on_step)
    if config.tensorboard and process_number() == 0:
        trainer.add_callback(tensorboard(folder / "tensorboard"))
    if config.patience and validates:
        validations = config.patience * num_batches / config.epochs / _steps_between_saves(config, num_batches)
        trainer.add_callback(EarlyStoppingCallback(math.ceil(validations)))
    if config.validation and (without := ", ".join(name for name in tasks if name not in validation.tasks)):
        effect = "the other tasks choose the best checkpoint" if validates else "using the last model"
        _LOG.warning("too few queries to hold out a share of %g in %s; %s", config.validation, without, effect)
    if data_rank() > 0:
        # Another dropout of each part of a batch.
        torch.manual_seed(seed + data_rank())
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    except ImportError as error:
        raise ConfigError(f"train.optimizer {config.optimizer!r} cannot be used: {reason(error)}") from error
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"a step of the training needs more memory than {model.device} has; to resume it with less, run the same "
            f"command with --set {_smaller(config)}"
        ) from error
    wait_for_all()
    model = trainer.gather()
    if process_number() > 0:
        return
    _warn_if_worse(trainer.state)
    if config.lora_rank:
        merge_adapters(model)
    with whole_folder(folder / "model") as staging:
        model.save_pretrained(str(staging))
        (staging / RECORD).write_text(
            json.dumps({"format": RECORD_FORMAT, "encoder_wording": formatting.ENCODER_WORDING, "tasks": sorted(tasks)})
            + "\n",
            "utf-8",
        )
        let_others_read(staging)
    shutil.rmtree(checkpoints, ignore_errors=True)


class _Trainer(SharedTraining, WithoutCard, SentenceTransformerTrainer):
    """The trainer, which raises an error if the best model cannot be loaded instead of keeping the last one."""

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def _smaller(config: TrainConfig) -> str:
    """Return a setting with which a step needs less memory, and a run the same result."""
    if config.mini_batch == 1 or updates_while_backward(config.optimizer):
        return "train.gradient_checkpointing=true"
    return f"train.mini_batch={config.mini_batch // 2 or 32}"


def _warn_if_worse(state: TrainerState) -> None:
    """Warn if the best checkpoint is worse than the encoder before the first step, which it does not compete with."""
    before = next((line for line in state.log_history if line["step"] == 0), {}).get(f"eval_{BEST}")
    if before is not None and state.best_metric is not None and state.best_metric < before:
        _LOG.warning(
            "the model orders held-out candidates worse than the encoder that this training started from: its mean "
            "NDCG is %.4f, and was %.4f; try a lower train.learning_rate, or more queries",
            state.best_metric,
            before,
        )


def check_optimizer(name: str) -> None:
    """Raise ConfigError if Transformers has no optimizer of that name."""
    known = [optimizer.value for optimizer in OptimizerNames]
    if name not in known:
        raise ConfigError(f"train.optimizer must be one of {', '.join(known)}; found {name!r}")


def num_steps(config: TrainConfig, num_queries: Mapping[str, int]) -> int:
    """Return the steps of a training: those of about ``epochs`` visits to each query, to half a batch a task."""
    # A batch of a task with fewer queries than its size has all of them.
    return sum(max(config.epochs, round(config.epochs * count / config.batch_size)) for count in num_queries.values())


def _arguments(
    model: SentenceTransformer,
    config: TrainConfig,
    seed: int,
    checkpoints: Path,
    num_batches: int,
    num_queries: Mapping[str, int],
    *,
    validates: bool,
) -> SentenceTransformerTrainingArguments:
    # Each column's route through the model, and the prompts that `encode_query` and `encode_document` add.
    routes = {"query": "query"} | {f"candidate_{n}": "document" for n in range(1, config.list_length + 1)}
    prompts = {column: prompt for column, route in routes.items() if (prompt := model.prompts.get(route))}
    return SentenceTransformerTrainingArguments(
        **shared_arguments(config, seed, checkpoints, num_batches, num_queries),
        prompts=prompts or None,
        router_mapping=routes if has_two_towers(model) else {},
        eval_strategy="steps" if validates else "no",
        eval_steps=_steps_between_saves(config, num_batches),
        load_best_model_at_end=validates,
        metric_for_best_model=f"eval_{BEST}" if validates else None,
        greater_is_better=True if validates else None,
    )


def shared_arguments(
    config: TrainConfig, seed: int, checkpoints: Path, num_batches: int, num_queries: Mapping[str, int]
) -> dict[str, Any]:
    """Return the trainer's arguments that the encoder and the reward model share.

    Args:
        config: the training's.
        seed: of the order and of dropout.
        checkpoints: their folder.
        num_batches: steps.
        num_queries: of each task.
    """
    between_saves = _steps_between_saves(config, num_batches)
    return dict(
        output_dir=str(checkpoints),
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        optim=config.optimizer,
        learning_rate=config.learning_rate,
        warmup_steps=round(config.warmup * num_batches),
        lr_scheduler_type="linear",
        bf16=config.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        multi_dataset_batch_sampler=partial(
            TaskBatchSampler,
            probabilities=task_probabilities(num_queries, config.alpha),
            num_draws=config.epochs,
            num_batches=num_batches,
            num_parts=data_size(),
            copies=tensor_size(),
        ),
        logging_steps=max(1, num_batches // 50),
        save_strategy="steps",
        save_steps=between_saves,
        # The previous checkpoint stays until the last one is complete.
        save_total_limit=2,
        restore_callback_states_from_checkpoint=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_num_workers=0,
        # Without it, Sentence Transformers warns. No batch is dropped: each has a part for every process.
        dataloader_drop_last=num_processes() > 1,
    )


def _steps_between_saves(config: TrainConfig, num_batches: int) -> int:
    """Return the steps from one checkpoint and validation to the next: an epoch, or less if there are few epochs."""
    return max(1, num_batches // (config.epochs * math.ceil(_MIN_CHECKPOINTS / config.epochs)))
