"""The text of a ``task.toml`` that a person is to edit, with words made of the names of columns."""

import re
from collections.abc import Iterator, Mapping

from udr.data import Kind, Metric, Task
from udr.errors import optional_import
from udr.types import Json


def task_toml(task: Task, source: Mapping[str, Json]) -> str:
    """Return the ``task.toml`` of a task, with comments that say what to edit; ``source`` tells where it is from."""
    return "\n".join(_parts(task, source))


def _parts(task: Task, source: Mapping[str, Json]) -> Iterator[str]:
    with optional_import("tomli-w, which writes task.toml,", "index"):
        import tomli_w
    keys = task.to_json()

    def part(comment: str, *names: str) -> str:
        text = tomli_w.dumps({name: keys[name] for name in names}, multiline_strings=True)
        return f"# {comment}\n{text}"

    yield part("Written by `udr init`. What may stand here: docs/your-data.md of udr", "name", "family", "kind")
    yield part("Edit this: what to do, in one sentence, as you would tell a colleague.", "instruction")
    yield part("What the model reads of a row, and the answer. Names in braces are columns.", "input", "output")
    yield part(f"How answers are measured: {', '.join(Metric)}.", "metric")
    if task.kind is Kind.CLASSIFICATION:
        yield part("The labels found. An answer is always one of them.", "labels")
    yield tomli_w.dumps({"source": dict(source)})


def title(column: str) -> str:
    """Return a column's name as a prompt shows it: ``ticket_body`` as ``Ticket body``."""
    words = " ".join(re.sub(r'[_{}"\\\s]+', " ", column).split())
    return words[:1].upper() + words[1:]


def instruction(kind: Kind, answer: str) -> str:
    """Return a plain instruction, which a person should replace; ``answer`` is the target's title."""
    if kind is Kind.MULTIPLE_CHOICE:
        return "Choose the right answer."
    verb = "Give" if kind is Kind.CLASSIFICATION else "Write"
    return f"{verb} the {answer[:1].lower()}{answer[1:]}."
