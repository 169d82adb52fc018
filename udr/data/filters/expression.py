"""The JSON of filters, from text: ``site = "imdb" and (stars >= 3 or not spoiler exists)``.

A comparison is a key, an operator (``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``not in``, ``exists``) and a
value: text in double quotes as in JSON, a number, ``true`` or ``false``; for ``in``, a list of these in brackets. A key
that is not a plain word is in double quotes as well. ``not`` binds closest, then ``and``, then ``or``. A text that
begins with ``{`` is the JSON itself.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from udr.data.filters.conditions import MAX_CONDITIONS, MAX_DEPTH, MAX_KEY, MAX_VALUES, Scalar
from udr.data.records import distinct
from udr.errors import InvalidInputError, brief

_TOKEN = re.compile(
    r"""\s*(?: (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.$-])
    | (?P<word>[\w$][\w.$-]*)
    | (?P<sign><=|>=|!=|[=<>()\[\],])
    | (?P<other>\S) )""",
    re.VERBOSE | re.DOTALL,
)
_Part: TypeAlias = dict[str, Any]
"""The JSON of a condition or a filter."""

_KEYWORDS = frozenset({"and", "or", "not", "in", "exists"})
_RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_MAX_CHARACTERS = 4 * MAX_CONDITIONS * MAX_KEY


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str | None
    text: str
    start: int

    @property
    def keyword(self) -> str | None:
        """The keyword that it is, or the sign; None if it is a key or a value."""
        if self.kind == "sign":
            return self.text
        return self.text.lower() if self.kind == "word" and self.text.lower() in _KEYWORDS else None


def parse_expression(text: str) -> _Part:
    """Return the JSON of the filter that a text describes; ``InvalidInputError`` names the character that is wrong."""
    if len(text) > _MAX_CHARACTERS:
        raise InvalidInputError(f"a filter's text has at most {_MAX_CHARACTERS} characters, found {len(text)}")
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text, object_pairs_hook=distinct))
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"the filter begins with {{ and is not JSON: {error}") from error
    matches = ((match, match.lastgroup or "other") for match in _TOKEN.finditer(text))
    tokens = [_Token(kind, match[kind], match.start(kind)) for match, kind in matches]
    parser = _Parser([*tokens, _Token(None, "", len(text))])
    part = parser.any_of(1)
    if parser.next.kind is not None:
        parser.fail("expected 'and', 'or' or the end")
    return {"must": [part]} if "key" in part else part


@dataclass
class _Parser:
    """Reads tokens from left to right; each method reads one rule of the grammar."""

    tokens: list[_Token]
    at: int = 0
    conditions: int = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self, *keywords: str) -> str | None:
        """Return the next token if it is one of these keywords, and go on."""
        if (word := self.next.keyword) not in keywords:
            return None
        self.at += 1
        return word

    def fail(self, expected: str) -> NoReturn:
        found = brief(self.next.text) if self.next.text else "the end"
        raise InvalidInputError(f"the filter, at character {self.next.start + 1}: {expected}; found {found}")

    def any_of(self, depth: int) -> _Part:
        parts = [self.all_of(depth)]
        while self.take("or"):
            parts.append(self.all_of(depth))
        return parts[0] if len(parts) == 1 else {"should": parts}

    def all_of(self, depth: int) -> _Part:
        parts = [self.negated(depth)]
        while self.take("and"):
            parts.append(self.negated(depth))
        if len(parts) == 1:
            return parts[0]
        # What is only negated joins the others' filter, as people would write it.
        negated = [item for part in parts if part.keys() == {"must_not"} for item in part["must_not"]]
        must = [part for part in parts if part.keys() != {"must_not"}]
        return {name: items for name, items in (("must", must), ("must_not", negated)) if items}

    def negated(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            self.fail(f"filters are nested at most {MAX_DEPTH} deep")
        if self.take("not"):
            return {"must_not": [self.negated(depth + 1)]}
        if not self.take("("):
            return self.comparison()
        part = self.any_of(depth + 1)
        if not self.take(")"):
            self.fail("expected ')'")
        return part

    def comparison(self) -> _Part:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            self.fail(f"a filter has at most {MAX_CONDITIONS} conditions")
        key = self.key()
        if self.take("exists"):
            return {"key": key, "exists": True}
        if self.take("in"):
            return {"key": key, "any": self.values()}
        if self.take("not"):
            if not self.take("in"):
                self.fail("expected 'in'")
            return {"must_not": [{"key": key, "any": self.values()}]}
        if self.take("="):
            return {"key": key, "match": self.value()}
        if self.take("!="):
            return {"must_not": [{"key": key, "match": self.value()}]}
        if sign := self.take(*_RANGES):
            return {"key": key, "range": {_RANGES[sign]: self.value()}}
        self.fail(f"expected one of =, !=, <, <=, >, >=, in, not in and exists after the key {brief(key)}")

    def key(self) -> str:
        token = self.next
        if token.kind not in ("word", "text") or token.keyword:
            self.fail("expected the name of a field")
        self.at += 1
        return token.text if token.kind == "word" else self._text(token)

    def value(self) -> Scalar:
        token = self.next
        if token.kind == "number":
            self.at += 1
            return _number(token.text)
        if token.kind == "text":
            self.at += 1
            return self._text(token)
        if token.text in ("true", "false"):
            self.at += 1
            return token.text == "true"
        self.fail('expected a value: text in double quotes ("imdb"), a number, true or false')

    def values(self) -> list[Scalar]:
        if not self.take("["):
            self.fail("expected a list in brackets")
        values = [self.value()]
        while self.take(","):
            if len(values) == MAX_VALUES:
                self.fail(f"a condition has at most {MAX_VALUES} values")
            values.append(self.value())
        if not self.take("]"):
            self.fail("expected ',' or ']'")
        return values

    def _text(self, token: _Token) -> str:
        try:
            return str(json.loads(token.text, strict=False))
        except ValueError:
            self.at -= 1
            self.fail("expected text as in JSON")


def _number(text: str) -> float:
    if not re.fullmatch(r"-?\d{1,300}", text):
        return float(text)
    # Exactly: numbers of accounts have more digits than a float.
    return int(text)
