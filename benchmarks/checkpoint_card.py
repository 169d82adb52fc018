"""The card of the released checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from udr import __version__
from udr.data import Collection
from udr.files import read_toml

_NOT_STATED = "not stated"


def card(
    trained: Collection,
    frozen: Mapping[str, Any],
    run: Path,
    *,
    stamp: Mapping[str, Any],
    average: Mapping[str, Any],
    held_out: Mapping[str, Any],
) -> str:
    """Return the card as Markdown.

    Args:
        trained: the tasks that it was trained on.
        frozen: what ``checkpoint.toml`` froze.
        run: the directory of the training.
        stamp: the language model that answered, its data type, the test rows of each task, and demonstrations shown.
        average: the means on watched tasks by the weight of the difference, and the chosen one.
        held_out: values and gains on the held-out tasks.
    """
    lm, notes = read_toml(run / "config.toml")["feedback"]["lm"], frozen.get("trained_notes", {})
    rank, watched = frozen["training"]["lora_rank"], frozen["watched"]
    sources = {name: read_toml(folder.path / "task.toml").get("source", {}) for name, folder in trained.tasks.items()}
    rows = [
        (
            name,
            trained.tasks[name].task.family,
            licence,
            sources[name].get("citation", _NOT_STATED),
            notes.get(name, ""),
        )
        for name, licence in frozen["trained"].items()
    ]
    families = [
        (kind.replace("_", " "), family, ", ".join(names))
        for kind, own in frozen["held_out"].items()
        for family, names in own.items()
    ]
    weights = [(f"{float(weight):g}", f"{mean:.1f}") for weight, mean in average["means"].items()]
    lines = [
        "# A retriever of demonstrations for prompts",
        f"A difference of rank {rank} to `{frozen['base']}`, trained by udr {__version__} from the feedback of `{lm}`. "
        "udr merges both when it is first used: `--model package:udr`. It is made again by "
        "`python benchmarks/checkpoint.py TASKS --out FOLDER`.",
        "## What it was trained on",
        "Tasks whose sources state a licence that allows any use. Their texts are not part of the weights' files.",
        _table(("task", "family", "licence", "cite", "note"), rows),
        *(_views(frozen["views"]) if "views" in frozen else ()),
        " ".join(frozen["share_alike"].split()),
        "## What it never saw",
        "Frozen before the training, and not looked at while anything was chosen:",
        _table(("", "family", "tasks"), families),
        "## The weight of the difference",
        f"Mean of {', '.join(watched['tasks'])}, {watched['rows']} test rows each, by the weight of the difference; 0 "
        f"is the base. Chosen: {average['chosen']:g}.",
        _table(("weight", "mean"), weights),
        "## On held-out tasks",
        f"{stamp['rows']} test rows each, answered by `{stamp['lm']}` in {stamp['dtype']} after {stamp['shots']} "
        "demonstrations.",
        *(
            _table((title, *next(iter(own.values()))), [(name, *cells.values()) for name, cells in own.items()])
            for title, own in held_out.items()
            if own
        ),
        "Gains have 95 % intervals over test rows, paired. With a head: by an index with label heads, on the tasks "
        "that get one.",
    ]
    return "\n\n".join(lines) + "\n"


def _views(views: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [(name, view["family"], view["of"], view["instruction"]) for name, view in views.items()]
    return [
        "Besides, some of the same texts, asked in another way:",
        _table(("view", "family", "of", "instruction"), rows),
    ]


def _table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])
