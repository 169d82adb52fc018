"""Training callbacks: the log ``metrics.jsonl``, TensorBoard and progress."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.integration_utils import TensorBoardCallback

from udr.errors import MissingExtraError
from udr.files import write_atomically
from udr_training.losses import process_number
from udr_training.trainer.checkpoints import ListFiles

_LOG = logging.getLogger(__name__)


class WithoutCard:
    """A trainer's part that leaves out Sentence-Transformers' model card, which ours replaces.

    Theirs draws a progress bar when the training begins, and copies rows into every checkpoint.
    """

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add no callback."""


class MetricsLog(TrainerCallback):
    """Appends what the trainer reports to a file, one JSON object per line, and to our log.

    ===========================================  =========================================================
    After some steps                             ``step``, ``epoch``, ``loss``, ``learning_rate``
    After a validation                           ``step``, ``epoch``, ``ndcg``, ``mrr``: by task, and ``mean``
    ===========================================  =========================================================

    A training that resumes from a checkpoint first drops the lines written after that checkpoint.

    Args:
        path: the file.
        visits: how often the training visits each query; ``epoch`` counts these visits.
    """

    def __init__(self, path: Path, visits: int) -> None:
        self._path, self._visits = path, visits

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Drop the lines after the step that the training resumes from, or all of them."""
        lines = self._path.read_text("utf-8").splitlines(keepends=True) if self._path.exists() else []
        # From step 0 the training validates the untrained encoder again, so the line of step 0 goes too.
        last = state.global_step or -1
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= last]
        write_atomically(self._path, "".join(kept).encode())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        """Write one line."""
        values, summary = _report(logs or {})
        if not values:
            return
        epoch = round(self._visits * state.global_step / max(1, state.max_steps), 3)
        line = json.dumps({"step": state.global_step, "epoch": epoch, **values})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in summary.items())
        _LOG.info("step %d of %d: %s", state.global_step, state.max_steps, numbers)


def tensorboard(folder: Path) -> TensorBoardCallback:
    """Return the trainer's own callback for TensorBoard, which writes into ``folder``.

    Raises:
        MissingExtraError: the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard, which train.tensorboard needs,", "tensorboard") from error
    # Neither is typed.
    writer: Any = SummaryWriter
    new_callback: Any = TensorBoardCallback
    callback: TensorBoardCallback = new_callback(writer(str(folder)))
    return callback


def _report(logs: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what to write of the trainer's values, and what to log."""
    if "loss" in logs:
        values = {name: float(logs[name]) for name in ("loss", "learning_rate") if name in logs}
        return values, {"loss": values["loss"]}
    metrics: dict[str, dict[str, float]] = {"ndcg": {}, "mrr": {}}
    for name, value in logs.items():
        metric, _, task = name.removeprefix("eval_").partition("_")
        if metric in metrics:
            metrics[metric][task] = round(float(value), 5)
    if not metrics["ndcg"]:
        return {}, {}
    return metrics, {metric: by_task["mean"] for metric, by_task in metrics.items()}


class StepProgress(TrainerCallback):
    """Reports the progress of a training, in place of the trainer's own bar.

    Args:
        on_step: called with the steps done, also before the first, and all steps.
    """

    def __init__(self, on_step: Callable[[int, int], None]) -> None:
        self._on_step = on_step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Report that no step is done, or those from before an interruption."""
        self._on_step(state.global_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Report that a step is done."""
        self._on_step(state.global_step, state.max_steps)


def add_callbacks(trainer: Trainer, metrics: MetricsLog, on_step: Callable[[int, int], None]) -> None:
    """Give a trainer its log, its progress and complete checkpoints, in place of its own output.

    Of several processes, the first one logs.
    """
    # Both write to stdout, which is for results.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(ListFiles)
    if process_number() == 0:
        trainer.add_callback(metrics)
        trainer.add_callback(StepProgress(on_step))
