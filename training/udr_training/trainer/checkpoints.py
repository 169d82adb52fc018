"""The checkpoints of a training: which are complete, and which one it resumes from."""

import json
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from udr.files import write_atomically
from udr.models import hub
from udr_training.losses import process_number, wait_for_all

_FILES = "files.json"


class ListFiles(TrainerCallback):
    """Lists a checkpoint's files in it once all are written, so that an incomplete checkpoint can be recognised."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """List the files of the checkpoint that was just saved."""
        # Each process has saved its state of random numbers.
        wait_for_all()
        if process_number() > 0:
            return
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        write_atomically(folder / _FILES, json.dumps(names).encode())


def last_complete(checkpoints: Path, start: str) -> Path | None:
    """Return the last complete checkpoint in a folder, ready to resume from; None if there is none.

    The training started from the model ``start``.
    """
    complete = [path.parent for path in checkpoints.glob(f"checkpoint-*/{_FILES}") if _is_complete(path)]
    for folder in complete:
        _update_paths(folder, start)
    return max(complete, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def _is_complete(files: Path) -> bool:
    return all((files.parent / name).is_file() for name in json.loads(files.read_text("utf-8")))


def _update_paths(folder: Path, start: str) -> None:
    """Update the absolute paths in a checkpoint, since the run may have been moved."""
    path = folder / "trainer_state.json"
    state = json.loads(path.read_text("utf-8"))
    if state.get("best_model_checkpoint"):
        state["best_model_checkpoint"] = str(folder.with_name(Path(state["best_model_checkpoint"]).name))
        write_atomically(path, json.dumps(state, indent=2).encode())
    for path in folder.rglob("adapter_config.json"):
        adapter = json.loads(path.read_text("utf-8"))
        adapter["base_model_name_or_path"] = str(hub.locate(start))
        write_atomically(path, json.dumps(adapter, indent=2).encode())
