"""The options in a retriever's name, ``NAME?option=value&option=value``: read and checked before anything is loaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args, get_type_hints

from udr.errors import ConfigError, RequestError
from udr.prompts import Order
from udr.retrieval import MODES, RetrievalRequest, SelectionOptions, check_options
from udr_training.evaluation.retrievers.names import ORACLE, RANDOM, source_of

_LEFT_OUT = {
    "exclude": "ids are of one task",
    "keep_copies": "a copy of a query shows its answer",
    "explain": "it changes no demonstration",
    "fill": "--shots says how many demonstrations prompts show",
}
"""Options of a retrieval that evaluations lack, and why."""

_KINDS = {name: hint for name, hint in get_type_hints(SelectionOptions).items() if name not in _LEFT_OUT}
_TRUTH = {"true": True, "false": False}
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|.', re.DOTALL)


@dataclass(frozen=True, slots=True)
class RetrieverName:
    """A retriever's name and options.

    Attributes:
        name: all of it, as it was given.
        source: the part before the options.
        options: those of a retrieval, with the mode if the name is one.
        order: the order in which prompts show what it finds.
    """

    name: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    order: Order = Order.NEAREST_LAST

    @property
    def same(self) -> tuple[object, ...]:
        """What two spellings of one retriever have in common."""
        return self.source, frozenset(self.options.items()), self.order

    def request(self, input: Mapping[str, Any] | str, task: str | None, k: int) -> RetrievalRequest:
        """Return the request for k demonstrations."""
        return RetrievalRequest(input=input, task=task, k=k, **self.options)


def split_unquoted(text: str, separator: str) -> list[str]:
    """Split a text at a character, but not within double quotes or brackets, which filters have."""
    parts, depth = [""], 0
    for token in _TOKEN.findall(text):
        if token == separator and not depth:
            parts.append("")
            continue
        depth = max(0, depth + (token in set("([{")) - (token in set(")]}")))
        parts[-1] += token
    return parts


def parse_name(name: str, k: int = 1) -> RetrieverName:
    """Return the parts of a retriever's name.

    Args:
        name: ``NAME`` or ``NAME?option=value&option=value``; the options are those of a retrieval, and ``order``.
        k: how many demonstrations will be requested.

    Raises:
        ConfigError: an option is unknown or given twice, or its value is of the wrong kind or out of range.
    """
    source, options = source_of(name), dict[str, Any]()
    for part in split_unquoted(name.split("?", 1)[1], "&") if "?" in name else ():
        option, sign, text = part.partition("=")
        if not sign or not option:
            raise ConfigError(f"retriever {name!r}: options must be NAME=VALUE, joined by &; found {part!r}")
        if option in options or (option == "mode" and source in MODES):
            raise ConfigError(f"retriever {name!r}: {option} is given twice")
        try:
            options[option] = _value(option, text)
        except ConfigError as error:
            raise ConfigError(f"retriever {name!r}: {error}") from None
    if not source:
        raise ConfigError(f"retriever {name!r}: there is no name before the options")
    if options and source in (RANDOM, ORACLE):
        raise ConfigError(f"retriever {name!r}: {source} searches nothing, so it takes no options")
    order = options.pop("order", Order.NEAREST_LAST)
    parsed = RetrieverName(name, source, {**({"mode": source} if source in MODES else {}), **options}, order)
    try:
        check_options(parsed.request("", None, max(1, k)))
    except RequestError as error:
        raise ConfigError(f"retriever {name!r}: {error}") from error
    return parsed


def _value(option: str, text: str) -> object:
    if option == "order":
        if text not in list(Order):
            raise ConfigError(f"order must be one of {', '.join(Order)}; found {text!r}")
        return Order(text)
    if option in _LEFT_OUT:
        raise ConfigError(f"an evaluation lacks the option {option}, since {_LEFT_OUT[option]}; omit it")
    if option not in _KINDS:
        raise ConfigError(f"unknown option {option!r}; the options are {', '.join([*_KINDS, 'order'])}")
    hint = _KINDS[option]
    kinds = [kind for kind in (get_args(hint) if isinstance(hint, UnionType) else [hint]) if kind is not type(None)]
    if kinds == [bool]:
        if text not in _TRUTH:
            raise ConfigError(f"{option} must be true or false, found {text!r}")
        return _TRUTH[text]
    for kind, words in ((int, "a whole number"), (float, "a number")):
        if kinds == [kind]:
            try:
                return kind(text)
            except ValueError:
                raise ConfigError(f"{option} must be {words}, found {text!r}") from None
    # The values of a mode are checked with the rest.
    return text
