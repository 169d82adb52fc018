"""One training of the encoder: ranked examples of many tasks in, a model folder out."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from udr import text
from udr.encoder import RECORD
from udr.files import whole_folder
from udr.pool import Pool
from udr_training.config import TrainConfig
from udr_training.losses import UDRLoss
from udr_training.ranking import RankedExample
from udr_training.sampling import TaskBatchSampler, draw_candidates, task_probabilities
from udr_training.towers import has_two_towers, starting_model

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskExamples:
    """What one task brings to a training.

    Attributes:
        pool: where queries and candidates come from.
        examples: the queries with their ranked candidates.
    """

    pool: Pool
    examples: tuple[RankedExample, ...]


def train_encoder(
    tasks: Mapping[str, TaskExamples], config: TrainConfig, seed: int, folder: Path, checkpoints: Path
) -> None:
    """Train an encoder and save it in ``folder``, which appears when it is whole.

    Args:
        tasks: by name.
        config: how.
        seed: of initialisation, order, draws and dropout; on a CPU, the same seed gives the same model.
        folder: where the model goes; opens with plain ``SentenceTransformer(folder)``.
        checkpoints: a folder for what the trainer writes meanwhile; it goes on from there after a kill.
    """
    torch.manual_seed(seed)
    model = starting_model(config)
    num_queries = {name: len(task.examples) for name, task in tasks.items()}
    num_batches = config.epochs * sum(max(1, count // config.batch_size) for count in num_queries.values())
    data = DatasetDict({name: _dataset(task, config, seed) for name, task in tasks.items()})
    trainer = SentenceTransformerTrainer(
        model=model,
        args=_arguments(model, config, seed, checkpoints, num_batches, num_queries),
        train_dataset=data,
        loss=UDRLoss(model, config.temperature or None, config.ranking_weight),
    )
    # Its own printer writes to stdout, which is for results.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_LogCallback)
    trainer.train(resume_from_checkpoint=_last_checkpoint(checkpoints))
    _save(model, config, folder)


class _LogCallback(TrainerCallback):
    """Sends what the trainer logs to our log."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        if logs and "loss" in logs:
            _LOG.info("step %d of %d: loss %.4f", state.global_step, state.max_steps, float(logs["loss"]))


def _arguments(
    model: SentenceTransformer,
    config: TrainConfig,
    seed: int,
    checkpoints: Path,
    num_batches: int,
    num_queries: Mapping[str, int],
) -> SentenceTransformerTrainingArguments:
    # Which way each column goes through the model, and the prompts that `encode_query` and `encode_document` add.
    routes = {"query": "query"} | {f"candidate_{n}": "document" for n in range(1, config.list_length + 1)}
    prompts = {column: prompt for column, route in routes.items() if (prompt := model.prompts.get(route))}
    return SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
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
        ),
        prompts=prompts or None,
        router_mapping=routes if has_two_towers(model) else {},
        logging_steps=max(1, num_batches // 50),
        save_strategy="steps",
        save_steps=max(1, num_batches // 5),
        save_total_limit=1,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_num_workers=0,
    )


def _dataset(task: TaskExamples, config: TrainConfig, seed: int) -> Dataset:
    """Return the task's queries, once a draw of candidates, draw after draw; texts are looked up when read."""
    places = {row.id: place for place, row in enumerate(task.pool.rows)}
    keys = _text_keys(task.pool)
    rows: dict[str, list[object]] = {"query": [], "candidates": [], "label": []}
    for number in range(config.epochs):
        for example in task.examples:
            draw = draw_candidates(example, config.list_length, number, seed)
            query = places[example.query_id]
            candidates = [places[example.candidates[place]] for place in draw.chosen]
            rows["query"].append(query)
            rows["candidates"].append(candidates)
            rows["label"].append([*draw.ranks, *(keys[place] for place in candidates), keys[query]])
    data = Dataset.from_dict(rows)
    data.set_transform(_Wording(task.pool))
    return data


_Columns = dict[str, list[Any]]


class _Wording:
    """Turns positions in a pool into what the encoder reads; ``datasets`` calls it on the rows of a batch."""

    def __init__(self, pool: Pool) -> None:
        self._queries = [text.row_query(pool.task, row) for row in pool.rows]
        self._demonstrations = [text.encoder_demonstration(pool.task, row) for row in pool.rows]

    def __call__(self, batch: _Columns) -> _Columns:
        columns: _Columns = {"query": [self._queries[place] for place in batch["query"]]}
        for number, places in enumerate(zip(*batch["candidates"], strict=True), start=1):
            columns[f"candidate_{number}"] = [self._demonstrations[place] for place in places]
        return {**columns, "label": batch["label"]}


def _text_keys(pool: Pool) -> list[int]:
    """Return a number for each row; copies share one."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(text.copy_text(pool.task, row), len(numbers)) for row in pool.rows]


def _last_checkpoint(checkpoints: Path) -> str | None:
    # The trainer writes its state last, so a folder without it was cut short.
    whole = [path.parent for path in checkpoints.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _save(model: SentenceTransformer, config: TrainConfig, folder: Path) -> None:
    # As it was trained, so it is to be searched, whatever it started from.
    model.similarity_fn_name = "cosine" if config.temperature else "dot"
    with whole_folder(folder) as staging:
        model.save_pretrained(str(staging))
        (staging / RECORD).write_text(json.dumps({"encoder_wording": text.ENCODER_WORDING}) + "\n", "utf-8")
