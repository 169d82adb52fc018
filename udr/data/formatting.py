r"""The one place that words a row, for the language model and for the encoder.

The language model reads, for one demonstration and a query,

    instruction \n\n demonstration's input \n demonstration's output \n\n query's input \n output up to the target

and continues with an option: the space before the target, the target, and what follows it in the output
template. Where one option of a row begins another, all of them end with a newline, or the longer one could
never win. The encoder reads ``instruction \n input`` as a query and ``instruction \n input \n output`` as a
demonstration.

Two fingerprints stand for these rules. They are hashes of what the rules make of a fixed task, so no change
of the rules can leave them as they were.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from udr.data.rows import VALUES, is_value
from udr.data.task import Kind, Metric, Task, TaskFamily, Template
from udr.errors import InvalidInputError
from udr.types import Fields, Row, Value

SEPARATOR = "\n\n"
"""What stands between the parts of a prompt."""


def value_text(value: Value) -> str:
    """Return how a field's value reads: text as it is, null as nothing, a list joined by commas."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return ", ".join(value_text(item) for item in value)


def input_text(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the input as the templates word it; ``{choices}`` reads the row's choices where no field does."""
    values = {name: value_text(value) for name, value in input.items()}
    if choices and "choices" not in values:
        values["choices"] = value_text(choices)
    return task.input.render(values)


def input_words(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the input's values without the template's own words, which all rows share: for lexical search."""
    return "\n".join(_field_texts(task, input, choices))


def _field_texts(task: Task, input: Fields, choices: Sequence[str]) -> list[str]:
    return [value_text(choices if name not in input else input[name]) for name in task.fields]


def output_text(task: Task, target: str) -> str:
    """Return the output of a demonstration."""
    return task.output.render({"target": task.verbalizer.get(target, target)})


def demonstration_text(task: Task, row: Row) -> str:
    """Return a demonstration as the prompt shows it."""
    return f"{input_text(task, row.input, row.choices)}\n{output_text(task, row.target)}"


def encoder_query(instruction: str, text: str) -> str:
    """Return what the encoder reads as a query: an instruction and a worded input."""
    return f"{instruction}\n{text}"


def encoder_demonstration(task: Task, row: Row) -> str:
    """Return what the encoder reads as a demonstration."""
    return f"{task.instruction}\n{demonstration_text(task, row)}"


def query_prompt(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the last part of a prompt: the input, and the output up to the space before the target."""
    lead, _ = _around_target(task)
    return f"{input_text(task, input, choices)}\n{lead.rstrip(' ')}"


def listing(task: Task, choices: Sequence[str] = ()) -> str:
    """Return what tells the language model which answers there are: the labels as it reads them, or the choices.

    Empty for a generation task.
    """
    answers = choices if task.kind is Kind.MULTIPLE_CHOICE else task.labels
    return "\n".join(["Options:", *(f"- {task.verbalizer.get(one, one)}" for one in answers)]) if answers else ""


def targets(task: Task, row: Row) -> tuple[str, ...]:
    """Return what may be answered: the labels, the row's choices, or for a generation task its target alone."""
    return {
        Kind.CLASSIFICATION: task.labels,
        Kind.MULTIPLE_CHOICE: row.choices,
        Kind.GENERATION: (row.target,),
    }[task.kind]


def options(task: Task, row: Row) -> tuple[str, ...]:
    """Return the continuations to score for a row, one for each of its ``targets``, in their order."""
    lead, tail = _around_target(task)
    space = lead[len(lead.rstrip(" ")) :]
    continuations = tuple(f"{space}{task.verbalizer.get(target, target)}{tail}" for target in targets(task, row))
    if any(a != b and b.startswith(a) for a in continuations for b in continuations):
        return tuple(f"{text}\n" for text in continuations)
    return continuations


def gold(task: Task, row: Row) -> int:
    """Return the position of the gold option among ``options(task, row)``."""
    return targets(task, row).index(row.target)


def _around_target(task: Task) -> tuple[str, str]:
    lead, _, tail = task.output.source.partition("{target}")
    return lead, tail


def prompt(instruction: str, demonstrations: Sequence[str], query: str) -> str:
    """Return a whole prompt: instruction once at the top, blank lines between the parts, the query last."""
    return SEPARATOR.join([instruction, *demonstrations, query])


def row_query(task: Task, row: Row) -> str:
    """Return what the encoder reads of a row as a query."""
    return encoder_query(task.instruction, input_text(task, row.input, row.choices))


def check_input(task: Task, input: Fields | str) -> Fields:
    """Return the fields of a query, or say what is wrong with them.

    Raises:
        InvalidInputError: a field is missing or unknown, or plain text meets a template with several fields.
    """
    names = ", ".join(map(repr, task.fields))
    if isinstance(input, str):
        if len(task.fields) != 1:
            raise InvalidInputError(
                f"task {task.name!r} has the fields {names}, but plain text was given; give each field by name"
            )
        input = {task.fields[0]: input}
    for name in task.fields:
        if name not in input:
            found = ", ".join(map(repr, input)) or "no field"
            raise InvalidInputError(f"field {name!r} of task {task.name!r} is missing; found {found}")
    for name, value in input.items():
        if name not in task.fields:
            raise InvalidInputError(f"task {task.name!r} has no field {name!r}; it has {names}")
        if not is_value(value):
            raise InvalidInputError(f"field {name!r} of task {task.name!r} must be {VALUES}")
    return input


@dataclass(frozen=True, slots=True)
class Wording:
    """What a query over a scope is worded with: one task's templates, or a wider scope's instruction."""

    instruction: str
    task: Task | None = None

    @staticmethod
    def of_task(task: Task) -> "Wording":
        """Return the wording of queries to one task."""
        return Wording(task.instruction, task)

    @staticmethod
    def of_families(families: Sequence[TaskFamily]) -> "Wording":
        """Return the wording of plain-text queries over one or more families."""
        return Wording(" ".join(family.instruction for family in families) if len(families) == 1 else ALL_INSTRUCTION)

    def query(self, input: Fields | str) -> str:
        """Return what the encoder reads.

        Raises:
            InvalidInputError: the input does not fit the task, or is not plain text where it must be.
        """
        return encoder_query(self.instruction, self.input(input))

    def input(self, input: Fields | str) -> str:
        """Return the input, worded, without the instruction."""
        if self.task is not None:
            return input_text(self.task, check_input(self.task, input))
        if not isinstance(input, str):
            raise InvalidInputError("a query over a family or over all is plain text; found fields")
        return input

    def words(self, input: Fields | str) -> str:
        """Return what lexical search reads of an input that ``input`` accepts."""
        if self.task is not None:
            return input_words(self.task, check_input(self.task, input))
        return str(input)


ALL_INSTRUCTION = "Find solved examples like this one."
"""The instruction of a query over all tasks."""


def _probe() -> tuple[Task, Row]:
    """A task and a row that touch every rule above."""
    task = Task(
        name="probe",
        family="probe",
        kind=Kind.MULTIPLE_CHOICE,
        instruction="Instruction.",
        input=Template("A: {a}\nB: {b}\nC: {choices}"),
        output=Template("Output: {target}."),
        metric=Metric.ACCURACY,
        verbalizer={"x": "word for x"},
    )
    row = Row(id="1", input={"a": "{b}", "b": [1, 0.5, True, None]}, target="x", choices=("x", "word for x.."))
    return task, row


def _fingerprint(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def _lm_wording() -> str:
    task, row = _probe()
    query = query_prompt(task, row.input, row.choices)
    whole = prompt(task.instruction, [demonstration_text(task, row)], query)
    return _fingerprint(whole, *options(task, row))


def _encoder_wording() -> str:
    task, row = _probe()
    query = encoder_query(task.instruction, input_text(task, row.input, row.choices))
    family = Wording.of_families([TaskFamily("probe", "Family.")]).query("text")
    return _fingerprint(query, encoder_demonstration(task, row), family, ALL_INSTRUCTION)


LM_WORDING = _lm_wording()
"""Fingerprint of what language models read; kept with scores."""

ENCODER_WORDING = _encoder_wording()
"""Fingerprint of what encoders read; kept with models and indexes."""
