"""The arms of ``quality.py``: their options, trainings and answers."""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality_calls import POOL, answer, call

from udr.data import open_collection
from udr.models import fingerprint, locate
from udr.store import open_version, read_weights
from udr_training.config import RunConfig, settings_of, with_settings
from udr_training.evaluation.retrievers import BUILT_IN, index_of, model_of, source_of
from udr_training.run_folder import RunFolder


@dataclass(frozen=True)
class Arm:
    """Settings of ``udr train``.

    Attributes:
        settings: of all iterations, as ``--set`` takes them.
        later: what later iterations ask.
        own: whether the pairs of the first iteration are the arm's own.
        once: whether it has one iteration, however many others have.
        bare: whether its encoder reads no instruction.
        weighed: whether its index gets weights of hybrid searches, for the tasks without labels.
    """

    settings: tuple[str, ...] = ()
    later: str = "same"
    own: bool = False
    once: bool = False
    bare: bool = False
    weighed: bool = False

    def options(self, iterations: int) -> list[str]:
        """Return the settings of a comparison with so many iterations."""
        return [*self.settings, *([f"candidates.later={self.later}"] if iterations > 1 and not self.once else [])]


ARMS = {
    "udr": Arm(),
    "full": Arm(("train.label_aware=true", "train.extrapolate=labels"), weighed=True),
    "label-aware": Arm(("train.label_aware=true",)),
    "kl": Arm(("train.loss=kl",)),
    "reward": Arm(("train.loss=kl", "train.extrapolate=reward")),
    "new": Arm(later="new"),
    "allocated": Arm(later="allocated"),
    "centred": Arm(("train.centre_scores=true",)),
    "shared": Arm(("candidates.shared=16",), own=True),
    "shared-centred": Arm(("candidates.shared=16", "train.centre_scores=true"), own=True),
    "first": Arm(once=True),
    "epr": Arm(("train.loss=epr",), once=True),
    "without-instruction": Arm(once=True, bare=True),
}
MAIN, SAME_AT_FIRST = ("udr", "full"), ("new", "allocated", "first")
"""The arms with several seeds, and those that differ from ``udr`` in their second iteration alone."""


def run_arm(arguments: argparse.Namespace, arm: Arm, run: Path, seed: int) -> None:
    """Train an arm with one seed, or what is left of it."""
    options = [*arm.options(arguments.iterations), *([f"train.seed={seed}"] if seed else [])]
    if arm.once or arguments.iterations == 1:
        _train(arguments, run, 1, *options, bare=arm.bare)
        return
    if not arm.own and not run.exists():
        first, part = arguments.out / "first-0", run.with_name(f"{run.name}.part")
        _train(arguments, first, 1)
        shutil.rmtree(part, ignore_errors=True)
        _claim(first, part, {"train.iterations": 2, **settings_of(options)})
        shutil.copytree(first / "iteration-0", part / "iteration-0")
        part.rename(run)
    _train(arguments, run, 2, *options)


def _claim(first: Path, run: Path, settings: Mapping[str, object]) -> None:
    """Make a run's directory from that of another, with some settings changed, so that it can get its results."""
    folder = RunFolder(first)
    RunFolder(run).claim(with_settings(folder.config(RunConfig), settings), folder.sources, folder.paths)


def _train(arguments: argparse.Namespace, run: Path, iterations: int, *settings: str, bare: bool = False) -> None:
    call(
        *("train", arguments.tasks, "--tasks", arguments.names, "--preset", arguments.preset, "--out", run),
        *("--queries", arguments.queries, "--candidates", arguments.candidates, "--iterations", iterations),
        # Held-out queries have to be in the index that they weigh.
        *("--pool", POOL),
        *("--lm", arguments.lm, "--model", arguments.model, "--dtype", arguments.dtype, "--test-rows", 0),
        *(
            "--train-dtype",
            arguments.train_dtype,
            "--feedback",
            arguments.feedback or arguments.out / "feedback.sqlite",
        ),
        # An arm's own settings come last, so that its seed counts.
        *(argument for setting in (*arguments.set, *settings) for argument in ("--set", setting)),
        bare=bare,
    )


def evaluate(
    arguments: argparse.Namespace, retrievers: Sequence[str], tasks: Sequence[str], *, bare: bool = False
) -> None:
    """Have the language model answer with each retriever, on the tasks of which it has no value yet.

    A run or an index that is not in the folder of the comparison was measured in another one. A line says which figures
    it lacks.
    """
    for each in retrievers:
        missing, source = arguments.kept.missing(each, tasks), source_of(each)
        if Path(source).is_relative_to(arguments.out) and not Path(source).exists():
            if missing:
                print(f"{arguments.kept.name(each)} is not in this folder, and has no figures of {', '.join(missing)}")
            continue
        if source not in BUILT_IN:
            arguments.kept.claim_retriever(each, _identity(source))
        if missing:
            output = arguments.out / f"evaluation{arguments.suffix}"
            answer(arguments, [each], missing, output, rows=arguments.rows, lm=arguments.answers, bare=bare)
            arguments.kept.take(open_collection(arguments.tasks, missing), output / "predictions", each)


def _identity(source: str) -> dict[str, Any]:
    """Return what tells an index, a run or an encoder from others, as ``udr evaluate`` writes it with the answers."""
    if (index := index_of(source)) is None:
        return {"model": fingerprint(locate(model_of(source)))}
    version = open_version(index)
    return {"version": version.manifest.version, "weights": read_weights(version.path, version.manifest)}
