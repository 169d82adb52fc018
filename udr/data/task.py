"""Tasks: the contents of a ``task.toml``, parsed and validated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from udr.errors import DataError
from udr.types import Json

_NAME = re.compile(r"[a-z0-9_-]+")
_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


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
    """A text with ``{field}`` placeholders. Values are inserted once, verbatim, and never parsed as a template.

    Braces that do not enclose a field name are ordinary characters.

    Attributes:
        source: the text as written.
    """

    source: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The field names, in order of first appearance."""
        return tuple(dict.fromkeys(_FIELD.findall(self.source)))

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with each ``{field}`` replaced by its value.

        Raises:
            KeyError: a field has no value.
        """
        return _FIELD.sub(lambda match: values[match.group(1)], self.source)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task, as a ``task.toml`` defines it.

    Attributes:
        name: unique; the folder's name.
        family: the task family it belongs to.
        kind: how the task is answered.
        instruction: what to do, in one sentence.
        input: the template of a query.
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
    verbalizer: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """The input fields that a query needs."""
        return self.input.fields

    def to_json(self) -> dict[str, Json]:
        """Return the keys of a ``task.toml`` that define this task."""
        keys: dict[str, Json] = {
            "name": self.name,
            "family": self.family,
            "kind": self.kind.value,
            "instruction": self.instruction,
            "input": self.input.source,
            "output": self.output.source,
            "metric": self.metric.value,
        }
        if self.labels:
            keys["labels"] = list(self.labels)
        if self.normalise is not None:
            keys["normalise"] = self.normalise.value
        if self.verbalizer:
            keys["verbalizer"] = dict(self.verbalizer)
        return keys


@dataclass(frozen=True, slots=True)
class TaskFamily:
    """A task family, and the instruction of queries over the whole family."""

    name: str
    instruction: str


_Choice = TypeVar("_Choice", bound=StrEnum)

_KEYS = tuple("name family kind instruction input output metric labels normalise verbalizer source".split())


def parse_task(keys: Mapping[str, object], path: Path | None = None) -> Task:
    """Return the task that the keys of a ``task.toml`` define.

    Args:
        keys: the parsed file.
        path: the file, for messages.

    Raises:
        DataError: a key is missing, unknown or has the wrong type; the message names the file and the key.
    """
    return _Keys(keys, path).task()


def parse_family(keys: Mapping[str, object], name: str, path: Path | None = None) -> TaskFamily:
    """Return the family that the keys of a ``family.toml`` define; ``instruction`` is the only one.

    Raises:
        DataError: a key is missing, unknown or has the wrong type.
    """
    reader = _Keys(keys, path)
    reader.refuse_unknown(("instruction",))
    return TaskFamily(name, reader.text("instruction"))


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of one TOML file; every error names the file and the key."""

    keys: Mapping[str, object]
    path: Path | None

    def task(self) -> Task:
        self.refuse_unknown(_KEYS)
        kind = self.choice("kind", Kind)
        labels = self.labels(kind)
        return Task(
            name=self.name("name"),
            family=self.name("family"),
            kind=kind,
            instruction=self.text("instruction"),
            input=self.input_template(),
            output=self.output_template(),
            metric=self.choice("metric", Metric),
            labels=labels,
            normalise=self.choice("normalise", Normalise) if "normalise" in self.keys else None,
            verbalizer=self.verbalizer(labels),
        )

    def error(self, key: str, message: str) -> DataError:
        return DataError(message, path=self.path, field=key)

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self.keys:
            if key not in known:
                raise self.error(key, f"unknown key; the known keys are {', '.join(known)}")

    def text(self, key: str) -> str:
        if key not in self.keys:
            raise self.error(key, "is missing")
        value = self.keys[key]
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"must be a non-empty string, found {value!r}")
        return value

    def name(self, key: str) -> str:
        value = self.text(key)
        if not _NAME.fullmatch(value):
            raise self.error(key, f"must contain only a-z, 0-9, _ and -, found {value!r}")
        return value

    def choice(self, key: str, kind: type[_Choice]) -> _Choice:
        value = self.text(key)
        known = [member.value for member in kind]
        if value not in known:
            raise self.error(key, f"must be one of {', '.join(known)}, found {value!r}")
        return kind(value)

    def input_template(self) -> Template:
        template = Template(self.text("input"))
        if not template.fields:
            raise self.error("input", f"must contain at least one {{field}}, found {template.source!r}")
        return template

    def output_template(self) -> Template:
        template = Template(self.text("output"))
        if _FIELD.findall(template.source) != ["target"]:
            raise self.error("output", f"must contain {{target}} once and no other field, found {template.source!r}")
        return template

    def labels(self, kind: Kind) -> tuple[str, ...]:
        value = self.keys.get("labels")
        if kind is not Kind.CLASSIFICATION:
            if value is not None:
                raise self.error("labels", f"are only for classification tasks; this task is {kind.value}")
            return ()
        if not isinstance(value, list) or not all(isinstance(label, str) and label.strip() for label in value):
            raise self.error("labels", f"must be a list of non-empty strings, found {value!r}")
        if len(value) < 2 or len(set(value)) < len(value):
            raise self.error("labels", f"must be at least two different labels, found {value!r}")
        return tuple(value)

    def verbalizer(self, labels: tuple[str, ...]) -> dict[str, str]:
        value = self.keys.get("verbalizer", {})
        if not isinstance(value, dict) or not all(isinstance(word, str) and word for word in value.values()):
            raise self.error("verbalizer", f"must be a table from labels to strings, found {value!r}")
        for label in value:
            if label not in labels:
                raise self.error("verbalizer", f"{label!r} is not one of the labels {list(labels)}")
        words = [value.get(label, label) for label in labels]
        if len(set(words)) < len(words):
            raise self.error("verbalizer", f"two labels have the same text: {words}")
        return value
