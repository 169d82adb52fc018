"""The checkpoints of a training: which are complete, and which one it resumes from."""

import json
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from udr.files import write_atomically
from udr.models import hub

_MARK = "files.json"


class MarkWhole(TrainerCallback):
    """Lists a checkpoint's files in it when all are written; one that was cut short, or half deleted, is told by it."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Mark the checkpoint that was just saved."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        write_atomically(folder / _MARK, json.dumps(names).encode())


def last_whole(checkpoints: Path, start: str) -> Path | None:
    """Return the last checkpoint that is whole, fit to be gone on from; None where there is none.

    Args:
        checkpoints: their folder.
        start: the model that the training started from.
    """
    whole = [path.parent for path in checkpoints.glob(f"checkpoint-*/{_MARK}") if _is_whole(path)]
    for folder in whole:
        _mend_paths(folder, start)
    return max(whole, key=_step, default=None)


def _is_whole(mark: Path) -> bool:
    return all((mark.parent / name).is_file() for name in json.loads(mark.read_text("utf-8")))


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _mend_paths(folder: Path, start: str) -> None:
    """Point a checkpoint to where things lie now: whole paths are written into it, and the run may have been moved."""
    path = folder / "trainer_state.json"
    state = json.loads(path.read_text("utf-8"))
    if state.get("best_model_checkpoint"):
        state["best_model_checkpoint"] = str(folder.with_name(Path(state["best_model_checkpoint"]).name))
        write_atomically(path, json.dumps(state, indent=2).encode())
    for path in folder.rglob("adapter_config.json"):
        adapter = json.loads(path.read_text("utf-8"))
        adapter["base_model_name_or_path"] = str(hub.locate(start))
        write_atomically(path, json.dumps(adapter, indent=2).encode())
