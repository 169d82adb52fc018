"""Answers of models that write: read as one of the possible answers, strictly at first, then leniently.

This module is pure.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from udr.data import Task
from udr.types import Row
from udr_training.answering.prompts import AnswerForm, answer_options

READING = 4
"""The version of the rules that end and read answers. Scores and evaluations by older rules are computed again, a
server's from the kept answers, so no figure mixes two ways of reading."""

MORE_TOKENS = "a model that thinks first needs more tokens, as by --lm-set body.max_completion_tokens=2000"
"""What to do about answers that are cut, as errors and warnings say it."""

# Some servers leave the opening tag in the prompt; a model that is cut writes no closing one.
_THOUGHTS = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL)
_UNENDED = re.compile(r"<(?:think|thinking|reasoning)>.*\Z", re.DOTALL)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
# What may stand around an answer: quotes, brackets, emphasis, a full stop.
_AROUND = " \t\n\r.,;:!?*_`\"'()[]{}<>“”‘’«»-–—"
# What may end one that more follows.
_END = re.compile(r"\s*(?:[.,;:!)\]\n](?!\d)|\Z)")
# What may stand around it at the start, but for the sign or the point of a number.
_BEFORE = re.compile(rf"\A(?:(?!-?\.?\d)[{re.escape(_AROUND)}])+")
MINUS = re.compile(r"(?<!\w)[−–—](?=\.?\d)")
"""A sign that is typed as a minus or a dash; in "5–9" it is none."""


class Parsing(StrEnum):
    """How an answer was read."""

    STRICT = "strict"
    """It is one of the possible answers, or text that needs no reading."""

    LENIENT = "lenient"
    """It is one but for its case, the punctuation around it, what introduces it, or what follows it."""

    UNPARSABLE = "unparsable"
    """It is none."""


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """What a model's text means: a target, or for generation a text; how it was read."""

    text: str
    parsing: Parsing


def parse_answer(
    task: Task, row: Row, text: str, form: AnswerForm = AnswerForm.TEXT, *, one_line: bool = True
) -> ParsedAnswer:
    """Return the answer that a model's text gives to a row.

    Args:
        task: the task.
        row: the query.
        text: the model's.
        form: in which it was asked to answer.
        one_line: whether answers of this task have one line; what follows is left out.

    Returns:
        The answer; its text is the model's own if it is unparsable, so that it counts as wrong, but without thoughts
        where texts are generated.
    """
    options = answer_options(task, row)
    said = without_thoughts(text)
    strict = said == text.strip()
    if form is not AnswerForm.TEXT:
        answer = _from_json(said)
        if answer is None:
            # A model that answers in words is read as if it had been asked for them.
            strict = False
        else:
            said = answer.strip()
    if (bare := _without_fence(row, said)) != said:
        said, strict = bare, False
    parsed = _label(task, options, said) if options else _text(task, row, said, one_line=one_line)
    if parsed is None:
        # Thoughts would be right in part, or in whole if an answer stands among them.
        return ParsedAnswer(text.strip() if options else said, Parsing.UNPARSABLE)
    if not said and _UNENDED.search(_THOUGHTS.sub("", text)):
        # A model that is cut in its thoughts has not answered, also where nothing is an answer.
        return ParsedAnswer(text.strip(), Parsing.UNPARSABLE)
    if not strict and parsed.parsing is Parsing.STRICT:
        return ParsedAnswer(parsed.text, Parsing.LENIENT)
    return parsed


def _label(task: Task, options: dict[str, str], said: str) -> ParsedAnswer | None:
    """Return the target that a text names."""
    lead, _, tail = task.output.source.partition("{target}")
    exact = {name + end: target for target, name in options.items() for end in ("", tail.rstrip())}
    if said in exact:
        return ParsedAnswer(exact[said], Parsing.STRICT)
    known = _known(options)
    beginning = _without_lead(said, lead)
    for candidate in (beginning, beginning.partition("\n")[0], _without_lead(said.rpartition("\n")[2], lead)):
        if (target := known.get(_plain(candidate))) is not None:
            return ParsedAnswer(target, Parsing.LENIENT)
    # "good. The review says ...": an option, then the end of a sentence, but not "1.5 stars".
    start = _from_start(beginning)
    if (name := _named(known, start)) is None:
        return None
    # Nor "good, bad": a model that lists all options has chosen none.
    rest = start[len(name) :].partition("\n")[0]
    items = (_named(known, _from_start(rest[sign.end() :])) for sign in _END.finditer(rest))
    listed = {known[item] for item in items if item is not None}
    return ParsedAnswer(known[name], Parsing.LENIENT) if listed <= {known[name]} else None


def _named(known: Mapping[str, str], text: str) -> str | None:
    """Return the longest name with which a text begins, up to its end or that of a line, a sentence or a clause."""
    return max((name for name in known if text.startswith(name) and _END.match(text, len(name))), key=len, default=None)


def _known(options: dict[str, str]) -> dict[str, str]:
    """Return targets by their plain texts, and by their own names, without those that mean two of them."""
    known: dict[str, str] = {}
    for texts in ({target: name for target, name in options.items()}, {target: target for target in options}):
        named = [(_plain(text), target) for target, text in texts.items()]
        counts = [plain for plain, _ in named]
        for plain, target in named:
            if plain and counts.count(plain) == 1:
                known.setdefault(plain, target)
    return known


def _text(task: Task, row: Row, said: str, *, one_line: bool) -> ParsedAnswer | None:
    """Return a generated text without what the output template puts around it; None if it is wrongly empty."""
    lead, _, tail = task.output.source.partition("{target}")
    answer = _without_lead(said, lead)
    if one_line:
        answer = answer.partition("\n")[0]
    answer = answer.removesuffix(tail.rstrip()).strip()
    if not answer and all(text.strip() for text in (row.target, *row.references)):
        return None
    same = answer == said.removesuffix(tail.rstrip()).strip()
    return ParsedAnswer(answer, Parsing.STRICT if same else Parsing.LENIENT)


def without_thoughts(text: str) -> str:
    """Return a model's text without its thoughts: what stands before the last ``</think>``, or after an open one."""
    return _UNENDED.sub("", _THOUGHTS.sub("", text)).strip()


def _without_fence(row: Row, said: str) -> str:
    """Return a text without a code fence around the whole of it, unless targets have fences."""
    fenced = _FENCE.match(said)
    fences = any("```" in text for text in (row.target, *row.references))
    return fenced.group(1).strip() if fenced and not fences else said


def _without_lead(text: str, lead: str) -> str:
    """Return a text without the words that the output template puts before the target, in any case."""
    for part in (lead.strip(), lead.rpartition("\n")[2].strip()):
        # "**Answer type:** place"
        bare = text.lstrip("*_` \n")
        if part and bare.casefold().startswith(part.casefold()):
            return bare[len(part) :].lstrip("*_` ").strip()
    return text


def _plain(text: str) -> str:
    return " ".join(_from_start(text).rstrip(_AROUND).split()) or text.casefold().strip()


def _from_start(text: str) -> str:
    """Return a text in lower case, without what may stand before an answer, and with minus signs as ``-``."""
    return _BEFORE.sub("", MINUS.sub("-", text.casefold()))


def _from_json(text: str) -> str | None:
    """Return the answer of a JSON object, in a fence or not; None if there is none."""
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except ValueError:
        return None
    if isinstance(value, dict):
        value = value.get("answer", next(iter(value.values())) if len(value) == 1 else None)
    if isinstance(value, bool | int | float):
        value = json.dumps(value)
    return value if isinstance(value, str) else None
