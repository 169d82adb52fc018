"""Training callbacks: the log ``metrics.jsonl``, and a progress bar."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback

from udr.errors import MissingExtraError
from udr.files import write_atomically

_LOG = logging.getLogger(__name__)

Numbers = Mapping[str, float]


class MetricsLog(TrainerCallback):
    """Appends what the trainer reports to a file, one JSON object a line, and tells our log.

    ===========================================  =========================================================
    After some steps                             ``step``, ``epoch``, ``loss``, ``learning_rate``
    After a validation                           ``step``, ``epoch``, ``ndcg``, ``mrr``: by task, and ``mean``
    ===========================================  =========================================================

    A training that goes on from a checkpoint first drops what was reported after it.

    Args:
        path: the file.
        visits: how often the training visits each query; ``epoch`` counts these visits.
    """

    def __init__(self, path: Path, visits: int) -> None:
        self._path, self._visits = path, visits

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Keep what was reported before this step."""
        lines = self._path.read_text("utf-8").splitlines(keepends=True) if self._path.exists() else []
        # One that begins anew tells what it was worth before its first step once more.
        last = state.global_step or -1
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= last]
        write_atomically(self._path, "".join(kept).encode())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Numbers | None = None,
        **_: object,
    ) -> None:
        """Write one line."""
        report = _report(logs or {})
        if not report:
            return
        epoch = round(self._visits * state.global_step / max(1, state.max_steps), 3)
        line = json.dumps({"step": state.global_step, "epoch": epoch, **report})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        _LOG.info("step %d of %d: %s", state.global_step, state.max_steps, _said(report))


def tensorboard(folder: Path) -> TensorBoardCallback:
    """Return the trainer's own callback for TensorBoard, which writes into ``folder``.

    Raises:
        MissingExtraError: the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard, which train.tensorboard needs,", "training") from error
    # Neither is typed.
    writer: Any = SummaryWriter
    callback: Any = TensorBoardCallback
    made: TensorBoardCallback = callback(writer(str(folder)))
    return made


def _report(logs: Numbers) -> dict[str, object]:
    if "loss" in logs:
        return {name: float(logs[name]) for name in ("loss", "learning_rate") if name in logs}
    measured = {
        measure: {
            name.removeprefix(f"eval_{measure}_"): round(float(value), 5)
            for name, value in logs.items()
            if name.startswith(f"eval_{measure}_")
        }
        for measure in ("ndcg", "mrr")
    }
    return dict(measured) if measured["ndcg"] else {}


def _said(report: Mapping[str, object]) -> str:
    means = {name: values["mean"] for name, values in report.items() if isinstance(values, dict)}
    numbers = means or {"loss": report.get("loss")}
    return ", ".join(f"{name} {value:.4f}" for name, value in numbers.items())


class ProgressBar(ProgressCallback):
    """The trainer's progress bar, on stderr, without the numbers that it writes to stdout."""

    def on_log(self, *_: object, **__: object) -> None:
        """Leave them to ``MetricsLog``."""
