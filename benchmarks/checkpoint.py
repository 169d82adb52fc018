"""The released checkpoint: one retriever trained on tasks whose licences allow it, as a difference to MiniLM.

    python benchmarks/checkpoint.py TASKS --out FOLDER [--parts NAME,...] [--dtype bfloat16]

``checkpoint.toml`` freezes, before anything is trained, which tasks are trained on, under which licences, and which are
held out. The parts, in order:

- ``plan``: checks the collection against that file, and prints tasks, sizes, and the command of the training;
- ``train``: one retriever by ``udr train`` with adapters (``train.lora_rank``), on the trained tasks, and on their
  views with ``--views``; both are written to FOLDER/tasks;
- ``average``: the trained weights averaged with the base's, by each weight; the best on test rows of watched tasks,
  which are trained ones, becomes FOLDER/checkpoint, if it is better than the base;
- ``evaluate``: on the held-out tasks, MiniLM and the checkpoint, each without and with label heads, and BM25;
- ``card``: the card of the checkpoint, with licences and results.

Every part resumes. To release it, copy FOLDER/checkpoint to ``udr/models/hub/checkpoint``: it is then
``package:udr``, and the base must be a dependency.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpoint_card import card
from checkpoint_training import check, held_out, plan, train
from measuring import parser
from quality_calls import SHOTS, answer
from quality_gains import mean_over, shown
from quality_heads import with_head
from quality_kept import Kept
from quality_table import Compared, side_of

from udr.data import open_collection
from udr.errors import UdrError
from udr.files import read_toml, whole_folder, write_atomically
from udr.models import DEFAULT_LM, PACKAGE, SentenceEncoder, fingerprint, hub, locate
from udr_training.evaluation import Estimate

FROZEN = Path(__file__).with_suffix(".toml")
ROWS = 300


def main(given: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--parts", default=",".join(PARTS))
    options.add_argument("--frozen", type=Path, default=FROZEN, help="the file that freezes the tasks")
    options.add_argument("--views", action="store_true", help="train on views of the tasks, too")
    options.add_argument("--queries", type=int, help="of each task in the training, in place of the frozen number")
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--dtype", default="bfloat16", help="of feedback and answers")
    options.add_argument("--rows", type=int, default=ROWS, help="test rows of each held-out task")
    options.add_argument("--untrained", type=Path, help="the figures of quality.py, to answer no row of theirs again")
    options.add_argument("--set", action="append", default=[], help="of the training, as in udr train")
    options.add_argument("--label-head", action="store_true", help="heads for all tasks with labels, gain or not")
    arguments = options.parse_args(given)
    frozen = read_toml(arguments.frozen)
    if not arguments.views:
        frozen.pop("views", None)
    if arguments.queries is not None:
        frozen["training"]["queries"] = arguments.queries
    names = arguments.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise SystemExit(f"no part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    check(arguments.tasks, frozen)
    # Answers are kept by the retriever's name, which must not depend on how the folder is spelled.
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"== {name}", flush=True)
        PARTS[name](arguments, frozen)


def average(arguments: argparse.Namespace, frozen: Mapping[str, Any]) -> None:
    watched, by_weight = frozen["watched"], dict[float, Path]()
    for weight in watched["weights"]:
        by_weight[weight] = arguments.out / "differences" / f"{weight:g}"
        _difference(arguments.out / "run" / "model", by_weight[weight], frozen, weight)
    names = {0.0: frozen["base"], **{weight: str(folder) for weight, folder in by_weight.items()}}
    _answer(arguments, "watched", list(names.values()), watched["tasks"], watched["rows"])
    kept = Kept(None, arguments.out, {})
    _take(arguments, kept, "watched", watched["tasks"], names.values())
    means = {weight: _mean(kept.values(name), watched["tasks"]).value for weight, name in names.items()}
    for weight, mean in means.items():
        print(f"weight {weight:g}: {mean:.1f}")
    best = best_weight(means)
    print(f"chosen: {best:g}")
    write_atomically(arguments.out / "average.json", json.dumps({"chosen": best, "means": means}, indent=1).encode())
    made = arguments.out / "checkpoint"
    if made.exists() and fingerprint(made) == fingerprint(by_weight[best]):
        return
    shutil.rmtree(made, ignore_errors=True)
    with whole_folder(made) as staging:
        shutil.copytree(by_weight[best], staging, dirs_exist_ok=True)


def best_weight(means: Mapping[float, float]) -> float:
    """Return the weight of the difference with the best mean on the watched tasks; exit if the base, 0, is as good."""
    best = max(means, key=lambda weight: (means[weight], -weight))
    if best == 0:
        raise SystemExit(
            "no weight of the difference is better than the base on the watched tasks, so no checkpoint is made; train "
            "another one: more queries or another learning rate in the frozen file, and another --out"
        )
    return best


def evaluate(arguments: argparse.Namespace, frozen: Mapping[str, Any]) -> None:
    tasks, base, own = held_out(frozen), frozen["base"], str(arguments.out / "checkpoint")
    compared = [Compared("bm25", [["bm25"]]), Compared("base", [[base]]), Compared("checkpoint", [[own]])]
    arguments.names = ",".join(tasks)
    # The index is named by the weights, so that another checkpoint gets its own.
    named = ("checkpoint", own, f"checkpoint-{fingerprint(locate(own))}")
    for name, model, index in (("base", base, Path(base.removeprefix(PACKAGE)).name), named):
        headed = with_head(arguments, index, model)
        if headed.tasks:
            compared.append(Compared(name, [[str(headed.index), model]], head=headed))
    # Not those with heads: another udr may have fitted these otherwise.
    kept = _untrained(arguments, ["bm25", base], tasks)
    for each in compared:
        name, wanted = each.retrievers[0][0], each.head.tasks if each.head else tasks
        if missing := kept.missing(name, wanted):
            _answer(arguments, "held-out", [name], missing, arguments.rows)
            _take(arguments, kept, "held-out", missing, [name])
    sides = {each.title: side_of(each, tasks, kept)[0] for each in compared}
    unseen = [task for names in frozen["held_out"]["unseen_families"].values() for task in names]
    groups = {"all": tasks, "unseen families": unseen, **{task: [task] for task in tasks}}
    result = {
        "of": _stamp(arguments),
        "values": {
            name: {group: round(_mean(side, own).value, 1) for group, own in groups.items()}
            for name, side in sides.items()
        },
        "gains": {
            f"{name} over {other}": {
                group: shown(_mean(sides[name], own) - _mean(sides[other], own)) for group, own in groups.items()
            }
            for name, other in (("checkpoint", "base"), ("checkpoint", "bm25"), ("checkpoint + head", "base + head"))
            if name in sides and other in sides
        },
    }
    write_atomically(arguments.out / "held-out.json", json.dumps(result, indent=1).encode())
    for rows in (result["values"], result["gains"]):
        print(f"\n| | {' | '.join(groups)} |\n{'|---' * (1 + len(groups))}|")
        for name, cells in rows.items():
            print(f"| {name} | {' | '.join(map(str, cells.values()))} |")


def write_card(arguments: argparse.Namespace, frozen: Mapping[str, Any]) -> None:
    results = {name: json.loads((arguments.out / f"{name}.json").read_bytes()) for name in ("average", "held-out")}
    if results["held-out"].pop("of", None) != (stamp := _stamp(arguments)):
        raise SystemExit(
            f"{arguments.out / 'held-out.json'}: not of this checkpoint with these --rows, --lm and --dtype; run "
            "--parts evaluate,card"
        )
    text = card(
        open_collection(arguments.tasks, list(frozen["trained"])),
        frozen,
        arguments.out / "run",
        stamp=stamp,
        **{name.replace("-", "_"): result for name, result in results.items()},
    )
    write_atomically(arguments.out / "checkpoint" / "README.md", text.encode())
    print(arguments.out / "checkpoint" / "README.md")


PARTS: dict[str, Callable[[argparse.Namespace, Mapping[str, Any]], None]] = {
    "plan": plan,
    "train": train,
    "average": average,
    "evaluate": evaluate,
    "card": write_card,
}


def _stamp(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return which checkpoint is evaluated, and how."""
    weights = fingerprint(arguments.out / "checkpoint")
    asked = {"lm": arguments.lm, "dtype": arguments.dtype, "rows": arguments.rows, "shots": SHOTS}
    return {"checkpoint": weights, **asked}


def _difference(model: Path, folder: Path, frozen: Mapping[str, Any], weight: float) -> None:
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_folder(folder) as staging:
            size = hub.write_difference(
                staging,
                frozen["base"],
                model,
                rank=frozen["training"]["lora_rank"],
                weight=weight,
                locate=locate,
                fingerprint=fingerprint,
                settings=lambda name: SentenceEncoder.load(name, "cpu").settings,
            )
    except UdrError as error:
        raise SystemExit(str(error)) from error
    print(f"{folder}: {size / 1e6:.1f} MB of at most {hub.MOST_BYTES / 1e6:g}")


def _answer(
    arguments: argparse.Namespace, name: str, retrievers: Sequence[str], tasks: Sequence[str], rows: int
) -> None:
    answer(arguments, retrievers, tasks, arguments.out / name, rows=rows, lm=arguments.lm)


def _take(
    arguments: argparse.Namespace, kept: Kept, name: str, tasks: Sequence[str], retrievers: Iterable[str]
) -> None:
    """Add the values of an evaluation."""
    collection = open_collection(arguments.tasks, tasks)
    for each in retrievers:
        kept.take(collection, arguments.out / name / "predictions", each)


def _untrained(arguments: argparse.Namespace, retrievers: Sequence[str], tasks: Sequence[str]) -> Kept:
    """Return what was measured elsewhere; else nothing, in no file, since another checkpoint may have the same name."""
    kept = Kept(None, arguments.out, {})
    if arguments.untrained is not None:
        settings = json.loads(arguments.untrained.read_bytes())["settings"]
        own = {"rows": arguments.rows, "answers": arguments.lm, "dtype": arguments.dtype, "shots": SHOTS}
        # Refused if one of these differs there; the other settings are about trainings.
        kept.take_from(Kept(arguments.untrained, arguments.out, {**settings, **own}), retrievers, tasks)
    return kept


def _mean(values: Mapping[str, Estimate], tasks: Sequence[str]) -> Estimate:
    return mean_over([values], tasks, 1)


if __name__ == "__main__":
    main()
