"""What ``checkpoint.toml`` freezes, checked; and the training of the checkpoint."""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpoint_views import trained_names, with_views
from quality_calls import call

from udr.data import open_collection
from udr.files import read_toml
from udr_training.config import TrainConfig
from udr_training.trainer import num_steps


def held_out(frozen: Mapping[str, Any]) -> list[str]:
    """Return the held-out tasks, those of unseen families first."""
    return [task for families in frozen["held_out"].values() for tasks in families.values() for task in tasks]


def check(root: Path, frozen: Mapping[str, Any]) -> None:
    """Exit if a task's licence is another one than the frozen, or if a task or family is on both sides."""
    tasks = open_collection(root, [*frozen["trained"], *held_out(frozen)]).tasks
    problems = [f"{name} is held out and trained on" for name in held_out(frozen) if name in frozen["trained"]]
    for name, expected in frozen["trained"].items():
        found = read_toml(tasks[name].path / "task.toml").get("source", {}).get("license", "not stated")
        if found != expected:
            problems.append(f"{name} has the licence {found!r}, not {expected!r}")
        if expected not in frozen["allowed"]:
            problems.append(f"{name}: {expected!r} is not among the licences that allow training")
        if tasks[name].task.family in frozen["held_out"]["unseen_families"]:
            problems.append(f"{name} is of the held-out family {tasks[name].task.family}")
    for name, view in frozen.get("views", {}).items():
        if view["of"] not in frozen["trained"]:
            problems.append(f"{name} is a view of {view['of']}, which is not trained on")
        if view["family"] in frozen["held_out"]["unseen_families"]:
            problems.append(f"{name} is of the held-out family {view['family']}")
    for families in frozen["held_out"].values():
        for family, names in families.items():
            problems += [f"{name} is not of the family {family}" for name in names if tasks[name].task.family != family]
    problems += [
        f"{name} is watched, but not trained on" for name in frozen["watched"]["tasks"] if name not in frozen["trained"]
    ]
    if problems:
        raise SystemExit(f"{'; '.join(problems)}; mend the frozen file or the collection")


def plan(arguments: argparse.Namespace, frozen: Mapping[str, Any]) -> None:
    """Print tasks, sizes, and the command of the training."""
    sizes = frozen["training"]
    for name, licence in frozen["trained"].items():
        print(f"trained on: {name} ({licence})")
    for name, view in frozen.get("views", {}).items():
        print(f"trained on: {name} ({view['family']}), a view of {view['of']}")
    for kind, families in frozen["held_out"].items():
        for family, names in families.items():
            print(f"held out, {kind.replace('_', ' ')}: {family}: {', '.join(names)}")
    config = TrainConfig(epochs=sizes["epochs"], batch_size=sizes["batch_size"])
    steps = num_steps(config, dict.fromkeys(trained_names(frozen), config.num_learned(sizes["queries"])))
    pairs = len(trained_names(frozen)) * sizes["queries"] * sizes["candidates"]
    print(f"{pairs * sizes['iterations']} pairs at most, {steps} steps in each of {sizes['iterations']} iteration(s)")
    print(f"what it takes here: udr {shlex.join([*training(arguments, frozen), '--dry-run'])}")


def train(arguments: argparse.Namespace, frozen: Mapping[str, Any]) -> None:
    """Train on the frozen tasks, or what is left of it."""
    call(*training(arguments, frozen))


def training(arguments: argparse.Namespace, frozen: Mapping[str, Any]) -> list[str]:
    """Return the arguments of ``udr`` for the training, and write its tasks."""
    sizes = frozen["training"]
    settings = [f"train.{name}={sizes[name]}" for name in ("lora_rank", "list_length", "batch_size")] + arguments.set
    command = [
        *("train", with_views(arguments.tasks, arguments.out, frozen), "--preset", "cpu"),
        *("--tasks", ",".join(trained_names(frozen))),
        *("--out", arguments.out / "run", "--feedback", arguments.out / "feedback.sqlite", "--seed", frozen["seed"]),
        *("--lm", arguments.lm, "--model", frozen["base"], "--dtype", arguments.dtype),
        *("--queries", sizes["queries"], "--candidates", sizes["candidates"], "--iterations", sizes["iterations"]),
        *("--epochs", sizes["epochs"], "--learning-rate", sizes["learning_rate"], "--test-rows", 0),
        *("--label-aware", "--extrapolate", "labels"),
        *(argument for setting in settings for argument in ("--set", setting)),
    ]
    return list(map(str, command))
