"""How a language model answers with the rows of a clean, a spoiled and a curated pool.

    python benchmarks/pool_answers.py TASKS --out FOLDER [--tasks trec,subj,ag_news] [--limit 300] [--lm MODEL]

The pools are spoiled as in ``pool.py``; the curated one is the spoiled one without the rows that labels, copies and
length flag. ``udr evaluate`` asks the language model about the same test rows with each, with 4 demonstrations of the
default encoder. Prints Markdown: the values, and two differences with their paired 95 % intervals. Resumes.
"""

import subprocess
from pathlib import Path

from answers import estimate_of, of_task, shown
from measuring import UDR, parser
from pool import spoiled

from udr.data import TaskFolder, open_collection
from udr.models import BASE_ENCODER, DEFAULT_LM, SentenceEncoder
from udr_training.evaluation import Estimate, mean
from udr_training.pool import WAYS, Choice, choose, score_pool, write_curated

POOLS = ("clean", "spoiled", "curated")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--tasks", dest="names", default="trec,subj,ag_news")
    options.add_argument("--limit", type=int, default=300)
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--dtype", default="float32", help="of its weights")
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    print("| task | rows: spoiled | curated | clean | spoiled | curated | spoiled - clean | curated - spoiled |")
    print("|" + "---|" * 8)
    means: dict[str, list[Estimate]] = {pool: [] for pool in POOLS}
    for folder in open_collection(arguments.tasks, arguments.names.split(",")).tasks.values():
        pools = _pools(folder, arguments.out / "pools" / str(arguments.seed) / folder.task.name, arguments.seed)
        rows = [len(pools[pool].rows("train")) for pool in POOLS[1:]]
        for pool, own in pools.items():
            means[pool].append(_value(own, arguments.out / "evaluations" / own.task.name / pool, arguments))
        print(_row(folder.task.name, rows, {pool: values[-1] for pool, values in means.items()}), flush=True)
    print(_row("mean", ["", ""], {pool: mean(values) for pool, values in means.items()}))


def _pools(folder: TaskFolder, out: Path, seed: int) -> dict[str, TaskFolder]:
    """Return the task with each pool; those that do not exist yet are written below ``out``."""
    name, task, clean = folder.task.name, folder.task, folder.rows("train")
    rows, _ = spoiled(task, clean, seed)
    if not (out / "spoiled").exists():
        write_curated(folder, Choice(tuple(rows), ()), out / "spoiled")
    if not (out / "curated").exists():
        scores = score_pool(task, rows, by=WAYS, encoder=lambda: SentenceEncoder.load(BASE_ENCODER, "cpu"))
        write_curated(folder, choose(rows, scores), out / "curated")
    return {"clean": folder} | {pool: open_collection(out / pool, [name]).tasks[name] for pool in POOLS[1:]}


def _value(folder: TaskFolder, out: Path, arguments) -> Estimate:  # noqa: ANN001
    """Return the value of the answers with a pool's rows."""
    command = [UDR, "evaluate", folder.path.parent.parent, "--tasks", folder.task.name, "--retrievers", BASE_ENCODER]
    command += [
        "--lm",
        arguments.lm,
        "--dtype",
        arguments.dtype,
        "--shots",
        "4",
        "--limit",
        arguments.limit,
        "--output",
        out,
        "--json",
    ]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return estimate_of(folder, *of_task(out, folder))


def _row(name: str, rows: list[object], values: dict[str, Estimate]) -> str:
    clean, spoiled_, curated = values.values()
    numbers = [f"{value.value:.1f}" for value in values.values()]
    return f"| {' | '.join([name, *map(str, rows), *numbers, shown(spoiled_ - clean), shown(curated - spoiled_)])} |"


if __name__ == "__main__":
    main()
