"""What workers of a Ray cluster cost over one process with the same cores: whole commands, on made-up rows.

Part ``runner``: ``udr feedback score`` and ``udr index build``, with ``--runner local`` on all cores and with
``--runner ray`` and one worker a core, in turns. Each takes 2 minutes or more on two cores; ``--quick`` only tries it.
``value_ratio`` is the runner's rows per second over the local ones; at least 0.9 is wanted. Needs the extra ``ray``.

Part ``plan``: the capacity plan of ``docs/scaling.md``, from the figures in ``docs/results/`` (``scale_plan.py``); its
picture is written to the folder.

    python benchmarks/scale.py --out build/scale --parts runner
"""

import json
import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from measuring import UDR, measured_once, parts_parser, results_folder
from scale_plan import draw, plan

from udr.models import num_threads

PARTS = ("plan", "runner")
TASK = """
name = "tickets"
family = "support"
kind = "classification"
instruction = "Give the department of the ticket."
input = "Ticket: {text}"
output = "Department: {target}"
metric = "accuracy"
labels = ["billing", "shipping", "returns", "accounts"]
"""
WORDS = "charged card invoice refund parcel courier address late box exchange colour size broken login password".split()


def write_tasks(folder: Path, rows: int) -> Path:
    """Write a task of made-up rows of 10 to 60 words."""
    chance = random.Random(0)
    task = folder / "support" / "tickets"
    task.mkdir(parents=True, exist_ok=True)
    (task / "task.toml").write_text(TASK, "utf-8")
    labels = ["billing", "shipping", "returns", "accounts"]
    with (task / "train.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = " ".join(chance.choices(WORDS, k=chance.randrange(10, 61)))
            row = {"id": str(number), "input": {"text": f"{text} {number}"}, "target": chance.choice(labels)}
            file.write(json.dumps(row) + "\n")
    return folder


def seconds_of(command: list[str], out: Path, threads: int) -> float:
    """Return the seconds of a whole command, which writes to a new folder."""
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    subprocess.run([UDR, *command, "--out", str(out)], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def compare(folder: Path, name: str, command: list[str], count: int, rounds: int) -> Mapping[str, object]:
    """Run a command both ways in turns, and return the rates."""
    cores = num_threads()
    runner = ["--runner", "ray", "--workers", str(cores)]
    local, ray = list[float](), list[float]()
    for _ in range(rounds):
        local.append(seconds_of(command, folder / f"{name}-local", cores))
        ray.append(seconds_of([*command, *runner], folder / f"{name}-ray", 1))
    return {
        "part": "runner",
        "work": name,
        "rows": count,
        "cores": cores,
        "local_seconds": [round(value, 1) for value in local],
        "ray_seconds": [round(value, 1) for value in ray],
        "local_per_second": round(count / statistics.median(local), 1),
        "ray_per_second": round(count / statistics.median(ray), 1),
        "value_ratio": round(statistics.median(local) / statistics.median(ray), 3),
    }


def main() -> None:
    arguments = parts_parser(__doc__, PARTS).parse_args()
    folder, quick = results_folder(arguments), arguments.quick
    rounds = 1 if quick else 2
    parts = arguments.parts.split(",")
    if "plan" in parts:
        print(plan())
        draw(folder / "scaling.svg")
    if "runner" not in parts:
        return
    queries, rows = (4, 300) if quick else (30, 24_000)
    scored = ["feedback", "score", str(write_tasks(folder / "scored", 500)), "--queries", str(queries)]
    built = ["index", "build", str(write_tasks(folder / "built", rows)), "--device", "cpu"]
    built += ["--no-bm25", "--no-export", "--no-label-head"]
    for name, command, count in (("feedback", scored, queries * 50), ("index", built, rows)):
        measured_once(
            folder / f"runner-{name}.json",
            lambda name=name, command=command, count=count: compare(folder, name, command, count, rounds),
        )


if __name__ == "__main__":
    main()
