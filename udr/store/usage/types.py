"""What is counted, and what is kept of a prompt; all frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from udr.types import Json

MAX_INPUT = 8192
"""The most characters of a query's input, as JSON, that are kept with its prompt."""

MAX_TARGET = 8192
"""The most characters of an outcome's target."""


class UsageLevel(StrEnum):
    """What a service keeps of its use."""

    OFF = "off"
    """Nothing."""

    COUNTS = "counts"
    """How often each demonstration is retrieved and shown, and which ones each prompt showed."""

    INPUTS = "inputs"
    """The input of each prompt's query as well, for the export of outcomes."""


@dataclass(frozen=True, slots=True)
class Count:
    """How often a demonstration was retrieved, and how often a prompt showed it."""

    retrieved: int = 0
    shown: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.retrieved + other.retrieved, self.shown + other.shown)


@dataclass(frozen=True, slots=True)
class TaskTotal:
    """How many prompts of a task were counted, and since when its use is, in seconds since 1970."""

    prompts: int
    since: float

    def __add__(self, other: "TaskTotal") -> "TaskTotal":
        return TaskTotal(self.prompts + other.prompts, min(self.since, other.since))


@dataclass(frozen=True, slots=True)
class ShownPrompt:
    """A prompt as it was answered.

    Attributes:
        prompt_id: its name, which cannot be guessed.
        task: the task of its query.
        ids: the demonstrations that it showed, of this task.
        seconds: when, since 1970.
        owner: the name of the API key that asked for it; None without keys.
        input: the query's fields by name; None if inputs are not kept, or it is too long.
    """

    prompt_id: str
    task: str
    ids: Sequence[str]
    seconds: float
    owner: str | None = None
    input: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class PromptOutcome:
    """What became of a prompt.

    Attributes:
        prompt_id: the prompt.
        score: how good the answer was, from 0 to 1.
        target: what the answer should have been, if that is known.
    """

    prompt_id: str
    score: float
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A prompt whose outcome is known."""

    prompt: ShownPrompt
    outcome: PromptOutcome
