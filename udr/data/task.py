"""Tasks: the contents of a ``task.toml``, parsed and validated."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TypeVar

from udr.data.keys import Keys
from udr.errors import brief
from udr.types import Json

_NAME = re.compile(r"[a-z0-9_-]+")
# Any name that a column of data may have; one letter at least, so that {2} of a formula stays text.
_FIELD = re.compile(r"\{([^{}\"\\\n]*[^\W\d_][^{}\"\\\n]*|_\w*)\}")
_KEYS = (
    *("name", "family", "kind", "instruction", "input", "encoder_input", "output"),
    *("metric", "labels", "normalise", "verbalizer", "source"),
)
_Choice = TypeVar("_Choice", bound=StrEnum)


class Kind(StrEnum):
    """How a task is answered."""

    CLASSIFICATION = "classification"
    MULTIPLE_CHOICE = "multiple_choice"
    GENERATION = "generation"


class Metric(StrEnum):
    """The metric of a task's answers."""

    ACCURACY = "accuracy"
    EXACT_MATCH = "exact_match"
    FINAL_ANSWER = "final_answer"
    ROUGE_L = "rouge_l"
    BLEU = "bleu"
    SARI = "sari"


class Normalise(StrEnum):
    """How the log-likelihoods of an option's tokens are combined."""

    SUM = "sum"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Template:
    """A text with ``{field}`` placeholders; braces around no name, such as ``{}``, ``{2}`` or JSON, are text.

    Values are inserted once, verbatim, and never parsed as a template.
    """

    source: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The field names, in order of first appearance."""
        return _fields(self.source)

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with each ``{field}`` replaced by its value; ``KeyError`` if it has none."""
        return _FIELD.sub(lambda match: values[match.group(1)], self.source)


# A request over many tasks asks for the fields of each.
@cache
def _fields(source: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_FIELD.findall(source)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task, as a ``task.toml`` defines it.

    Attributes:
        name: unique; the folder's name.
        family: the task family it belongs to.
        kind: how the task is answered.
        instruction: what to do, in one sentence.
        input: the template of a query.
        encoder_input: the template that the encoder reads in its place, with the same fields; None reads ``input``. An
            encoder reads only the beginning of a long text, so put the fields that differ first.
        output: the template of an answer; contains ``{target}`` once and no other field.
        labels: the labels of a classification task, else empty.
        metric: the metric of its answers.
        normalise: how token log-likelihoods are combined; None selects the kind's default.
        verbalizer: from a label to the text that the language model reads instead.
    """

    name: str
    family: str
    kind: Kind
    instruction: str
    input: Template
    output: Template
    metric: Metric
    labels: tuple[str, ...] = ()
    normalise: Normalise | None = None
    encoder_input: Template | None = None
    verbalizer: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """The input fields that a query needs."""
        return self.input.fields

    def to_json(self) -> dict[str, Json]:
        """Return the keys of a ``task.toml`` that define this task."""
        keys = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("input", "encoder_input", "output"):
            keys[name] = keys[name] and keys[name].source
        keys |= {"labels": list(self.labels), "verbalizer": dict(self.verbalizer)}
        return {key: value.value if isinstance(value, StrEnum) else value for key, value in keys.items() if value}


@dataclass(frozen=True, slots=True)
class TaskFamily:
    """A task family, and the instruction of queries over the whole family."""

    name: str
    instruction: str


def parse_task(values: Mapping[str, object], path: Path | None = None) -> Task:
    """Return the task that the keys of a ``task.toml`` define.

    Raises:
        DataError: a key is missing, unknown or has the wrong type; the message names the file and the key.
    """
    keys = Keys(values, path)
    keys.refuse_unknown(_KEYS)
    kind = _choice(keys, "kind", Kind)
    labels = _labels(keys, kind)
    return Task(
        name=_name(keys, "name"),
        family=_name(keys, "family"),
        kind=kind,
        instruction=keys.text("instruction"),
        input=_template(keys, "input", "at least one {field}", lambda fields: bool(fields)),
        output=_template(keys, "output", "{target} once and no other field", lambda fields: fields == ["target"]),
        metric=_choice(keys, "metric", Metric),
        labels=labels,
        normalise=_choice(keys, "normalise", Normalise) if "normalise" in values else None,
        encoder_input=_encoder_template(keys) if "encoder_input" in values else None,
        verbalizer=_verbalizer(keys, labels),
    )


def parse_family(values: Mapping[str, object], name: str, path: Path | None = None) -> TaskFamily:
    """Return the family that the keys of a ``family.toml`` define; errors as ``parse_task``."""
    keys = Keys(values, path)
    keys.refuse_unknown(("instruction",))
    return TaskFamily(name, keys.text("instruction"))


def is_name(text: str) -> bool:
    """Return whether a task or a family may have this name."""
    return _NAME.fullmatch(text) is not None


def _name(keys: Keys, key: str) -> str:
    value = keys.text(key)
    if not is_name(value):
        raise keys.error(key, f"must contain only a-z, 0-9, _ and -, found {brief(value)}")
    return value


def _choice(keys: Keys, key: str, kind: type[_Choice]) -> _Choice:
    value = keys.text(key)
    if value not in set(kind):
        raise keys.error(key, f"must be one of {', '.join(kind)}, found {brief(value)}")
    return kind(value)


def _encoder_template(keys: Keys) -> Template:
    template, fields = Template(keys.text("encoder_input")), Template(keys.text("input")).fields
    if set(template.fields) != set(fields):
        message = f"must contain the fields of input, {', '.join(fields)}; found {', '.join(template.fields) or 'none'}"
        raise keys.error("encoder_input", message)
    return template


def _template(keys: Keys, key: str, needed: str, valid: Callable[[list[str]], bool]) -> Template:
    source = keys.text(key)
    if not valid(_FIELD.findall(source)):
        raise keys.error(key, f"must contain {needed}, found {brief(source)}")
    return Template(source)


def _labels(keys: Keys, kind: Kind) -> tuple[str, ...]:
    if kind is Kind.CLASSIFICATION:
        labels = keys.texts("labels")
        keys.check_distinct("labels", labels)
        return labels
    if keys.values.get("labels") is not None:
        raise keys.error("labels", f"are only for classification tasks; this task is {kind.value}")
    return ()


def _verbalizer(keys: Keys, labels: tuple[str, ...]) -> dict[str, str]:
    value = keys.values.get("verbalizer", {})
    if not isinstance(value, dict) or not all(isinstance(text, str) and text for text in value.values()):
        raise keys.error("verbalizer", f"must be a table from labels to strings, found {brief(value)}")
    for label in value:
        if label not in labels:
            raise keys.error("verbalizer", f"{brief(label)} is not one of the labels {brief(list(labels))}")
    texts = [value.get(label, label) for label in labels]
    if len(set(texts)) < len(texts):
        raise keys.error("verbalizer", f"two labels have the same text: {brief(texts)}")
    return value
