r"""Formatting: the only code that turns rows into text, for the language model and for the encoder.

The language model reads, for one demonstration and a query,

    instruction \n\n demonstration's input \n demonstration's output \n\n query's input \n output up to the target

and continues with an option: the space before the target, the target, and what follows it in the output
template. If one option of a row is a prefix of another, all options end with a newline; else the longer one could
never win. The encoder reads ``instruction \n input`` as a query and ``instruction \n input \n output`` as a
demonstration. Two fingerprints change with these rules.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from udr.data.task import Kind, Metric, Task, TaskFamily, Template
from udr.errors import InvalidInputError, brief, listed
from udr.types import VALUES, Fields, Row, Value, is_value, plain

SEPARATOR = "\n\n"
"""The separator between the parts of a prompt."""


def value_text(value: Value) -> str:
    """Return a field's value as text: strings unchanged, None empty, lists joined by commas."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return ", ".join(value_text(item) for item in value)


def input_text(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the formatted input; ``{choices}`` means the row's choices unless a field has that name."""
    values = {name: value_text(value) for name, value in input.items()}
    return task.input.render({"choices": value_text(choices), **values} if choices else values)


def encoder_input(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the input as the encoder reads it: by the template ``encoder_input`` if the task has one."""
    return input_text(task if task.encoder_input is None else replace(task, input=task.encoder_input), input, choices)


def encoder_fields(task: Task) -> tuple[str, ...]:
    """Return the fields that the encoder reads, in the order of its template."""
    return (task.encoder_input or task.input).fields


def field_texts(input: Fields, names: Sequence[str], choices: Sequence[str] = ()) -> list[str]:
    """Return the values of some fields, each alone; a field that the input lacks means the row's choices."""
    return [value_text(input[name] if name in input else choices) for name in names]


def input_words(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the input's values without the template's words, which all rows share: the text for BM25."""
    return "\n".join(field_texts(input, task.fields, choices))


def verbalised(task: Task, target: str) -> str:
    """Return the text that a language model reads in place of a target: by the task's verbalizer, if it has one."""
    return task.verbalizer.get(target, target)


def output_text(task: Task, target: str) -> str:
    """Return the output of a demonstration."""
    return task.output.render({"target": verbalised(task, target)})


def demonstration_text(task: Task, row: Row) -> str:
    """Return a demonstration as the prompt shows it."""
    return f"{input_text(task, row.input, row.choices)}\n{output_text(task, row.target)}"


def encoder_query(instruction: str, text: str) -> str:
    """Return the encoder's text of a query: an instruction and a formatted input."""
    return f"{instruction}\n{text}"


def encoder_demonstration(task: Task, row: Row) -> str:
    """Return the encoder's text of a demonstration."""
    return f"{task.instruction}\n{solved_text(task, row)}"


def solved_text(task: Task, row: Row) -> str:
    """Return a row's input, as the encoder reads it, and its output, without the instruction."""
    return f"{encoder_input(task, row.input, row.choices)}\n{output_text(task, row.target)}"


def demonstration_wording(task: Task) -> str:
    """Return a hash of all that turns rows into demonstrations: the rules of this module and the task's own texts.

    If it differs, so may what an encoder and a tokenizer make of a row.
    """
    templates = [template and template.source for template in (task.input, task.encoder_input, task.output)]
    texts = [LM_WORDING, ENCODER_WORDING, task.instruction, *templates, sorted(task.verbalizer.items())]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def query_prompt(task: Task, input: Fields, choices: Sequence[str] = ()) -> str:
    """Return the last part of a prompt: the input, and the output up to the space before the target."""
    lead = task.output.source.partition("{target}")[0]
    return f"{input_text(task, input, choices)}\n{lead.rstrip(' ')}"


def listing(task: Task, choices: Sequence[str] = ()) -> str:
    """Return the list of possible answers for the prompt: labels or choices; empty for a generation task."""
    answers = choices if task.kind is Kind.MULTIPLE_CHOICE else task.labels
    lines = [f"- {verbalised(task, answer)}" for answer in answers]
    return "\n".join(["Options:", *lines]) if lines else ""


def targets(task: Task, row: Row) -> tuple[str, ...]:
    """Return the possible answers: the labels, the row's choices, or a generation task's target."""
    return (row.target,) if task.kind is Kind.GENERATION else task.labels or row.choices


def options(task: Task, row: Row) -> tuple[str, ...]:
    """Return the continuations to score, none empty, one for each of the row's ``targets``, in their order."""
    lead, _, tail = task.output.source.partition("{target}")
    space = lead[len(lead.rstrip(" ")) :]
    continuations = tuple(f"{space}{verbalised(task, target)}{tail}" for target in targets(task, row))
    # In order, what begins with another text follows it.
    ordered = sorted(set(continuations))
    if not all(continuations) or any(after.startswith(text) for text, after in pairwise(ordered)):
        return tuple(f"{text}\n" for text in continuations)
    return continuations


def gold(task: Task, row: Row) -> int:
    """Return the position of the gold option among ``options(task, row)``."""
    return targets(task, row).index(row.target)


def prompt(instruction: str, demonstrations: Sequence[str], query: str) -> str:
    """Return a prompt: the instruction, the demonstrations and the query, separated by blank lines."""
    return SEPARATOR.join([instruction, *demonstrations, query])


def row_query(task: Task, row: Row) -> str:
    """Return the encoder's text of a row as a query."""
    return encoder_query(task.instruction, encoder_input(task, row.input, row.choices))


def _query_names(task: Task) -> Sequence[str]:
    """Return the fields that a query may have: those of the template, and choices, which a prompt can list."""
    return task.fields if task.kind is not Kind.MULTIPLE_CHOICE else tuple(dict.fromkeys((*task.fields, "choices")))


def query_fields(task: Task, row: Row) -> Fields:
    """Return the fields of a row as a query gives them: those that the task's template names.

    The row's choices are one if the template shows them, and always in a multiple-choice task. Other fields of its
    input are left out, since a query with another field is refused.
    """
    return {name: row.input[name] if name in row.input else list(row.choices) for name in _query_names(task)}


def check_input(task: Task, input: Fields | str) -> Fields:
    """Return a query's fields, of which plain text can be the only one; ``InvalidInputError`` if they do not fit.

    The list ``choices`` of a multiple-choice query need not be in the template; models then read it only if a prompt
    lists it.
    """
    names = ", ".join(map(repr, task.fields))
    if isinstance(input, str):
        if len(task.fields) != 1:
            message = f"task {task.name!r} has the fields {names}, but plain text was given; give each field by name"
            raise InvalidInputError(message)
        input = {task.fields[0]: input}
    for name in task.fields:
        if name not in input:
            given = listed(map(brief, input), len(input)) or "no fields"
            raise InvalidInputError(f"field {name!r} of task {task.name!r} is missing; found {given}")
    fields: Fields = plain(input)
    for name, value in fields.items():
        if name not in _query_names(task):
            names = ", ".join(map(repr, _query_names(task)))
            raise InvalidInputError(f"task {task.name!r} has no field {brief(name)}; it has {names}")
        if not is_value(value):
            raise InvalidInputError(f"field {name!r} of task {task.name!r} must be {VALUES}")
    return fields


@dataclass(frozen=True, slots=True)
class Wording:
    """How queries of a scope are formatted: by one task's templates, or by a wider scope's instruction."""

    instruction: str
    task: Task | None = None

    @staticmethod
    def of_task(task: Task) -> "Wording":
        """Return the wording of queries of one task."""
        return Wording(task.instruction, task)

    @staticmethod
    def of_families(families: Sequence[TaskFamily]) -> "Wording":
        """Return the wording of plain-text queries over one or more families."""
        return Wording(" ".join(family.instruction for family in families) if len(families) == 1 else ALL_INSTRUCTION)

    def query(self, input: Fields | str) -> str:
        """Return the encoder's text; ``InvalidInputError`` if the input does not fit the task or the wider scope."""
        return encoder_query(self.instruction, self.input(input))

    def input(self, input: Fields | str) -> str:
        """Return the input as the encoder reads it, without the instruction."""
        if self.task is not None:
            return encoder_input(self.task, check_input(self.task, input))
        if not isinstance(input, str):
            raise InvalidInputError("a query over a family or over all tasks must be plain text; found fields")
        return input

    def demonstration(self, input: Fields | str) -> str:
        """Return the encoder's text of the query as a demonstration, up to the target, which is not known."""
        if self.task is not None:
            lead = self.task.output.source.partition("{target}")[0]
            return f"{self.query(input)}\n{lead.rstrip(' ')}"
        return self.query(input)

    def fields(self, input: Fields | str, names: Sequence[str]) -> list[str]:
        """Return the encoder's texts of single fields; see ``field_texts``. None of a wider scope's queries."""
        return [] if self.task is None else field_texts(check_input(self.task, input), names)

    def words(self, input: Fields | str) -> str:
        """Return the text of an input for BM25."""
        if self.task is not None:
            return input_words(self.task, check_input(self.task, input))
        return str(input)


ALL_INSTRUCTION = "Find solved examples like this one."
"""The instruction of a query over all tasks."""


def _fingerprints() -> tuple[str, ...]:
    """Return hashes of what the rules above make of an example that exercises them all."""
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
    query = query_prompt(task, row.input, row.choices)
    lm_texts = prompt(task.instruction, [demonstration_text(task, row)], query), *options(task, row)
    family_query = Wording.of_families([TaskFamily("probe", "Family.")]).query("text")
    encoder_texts = row_query(task, row), encoder_demonstration(task, row), family_query, ALL_INSTRUCTION
    return tuple(hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16] for texts in (lm_texts, encoder_texts))


LM_WORDING, ENCODER_WORDING = _fingerprints()
"""Fingerprints of what language models read, stored with scores, and of what encoders read, stored with models and
indexes."""
