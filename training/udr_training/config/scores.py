"""Configuration of the scores: which pairs, by which language model."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from udr.errors import ConfigError
from udr.models import DEFAULT_LM
from udr.prompts import Layout
from udr_training.answering import Api, PromptSettings, is_remote, read_address, read_settings

DTYPES = ("float32", "bfloat16", "float16")
KINDS = ("likelihood", "completions-echo", "chat-logprobs", "metric", "rank", "outcomes")
LATER = ("same", "new", "allocated")

_WRITTEN = ("chat-logprobs", "metric")
ANSWERED = (*_WRITTEN, "rank")
"""The kinds whose scores come from the answers of a server."""

# All but ``rank``, which lists candidates, and ``outcomes``.
_WITH_CONTEXT = KINDS[:-2]
_KINDS_WITH: Mapping[str, tuple[str, ...]] = {
    "lm_set": KINDS[:-1],
    "layout": _WRITTEN,
    "list_options": _WRITTEN,
    "tokenizer": _WRITTEN,
    "budget": ANSWERED,
    "samples": ("metric",),
    "listed": ("rank",),
    "picked": ("rank",),
    "shuffles": ("rank",),
}
"""The kinds in which a setting has an effect, where not in all."""


@dataclass(frozen=True, kw_only=True)
class CandidateConfig:
    """Which pairs are scored.

    Attributes:
        pool: rows per pool, sampled by seed; 0 for all.
        queries: training queries per task, sampled from the pool by seed; 0 for all.
        num_candidates: K, candidates per query and iteration.
        random_share: the share of random candidates.
        shared: random candidates and the context are drawn from this many demonstrations of a task, the same for all
            its queries, so that more queries are scored with each; 0 draws from the whole pool.
        later: what later iterations ask the language model: the ``same`` queries about new candidates, as the paper
            does; ``new`` queries, as many as the same number of pairs pays for; or new queries that are ``allocated``
            to tasks by what labels leave unexplained of their scores.
    """

    pool: int = 0
    queries: int = 0
    num_candidates: int = 50
    random_share: float = 0.0
    shared: int = 0
    later: str = "same"

    @property
    def num_random(self) -> int:
        """How many of a query's candidates are random: the same ones in every iteration."""
        return round(self.num_candidates * self.random_share)


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig:
    """The feedback language model.

    Attributes:
        lm: its name.
        dtype: the precision of its weights.
        device: its device.
        context: demonstrations shown before the scored one, drawn per query; the paper has 0. Kinds ``rank`` and
            ``outcomes`` show none.
        pack_tokens: tokens per pack; 0 uses the measured optimum of the device.
        kind: where scores come from. ``likelihood``: the log-likelihoods of a prompt's options, computed in this
            process or echoed by a completions server, which ``completions-echo`` demands; ``chat-logprobs``: the gold
            option's share among the alternatives of a chat answer's first tokens; ``metric``: the task's metric of
            generated answers; ``rank``: which of several listed candidates a chat server names as most helpful;
            ``outcomes``: the outcomes of real prompts, in the file of scores, so that ``lm`` only evaluates.
        lm_set: how a server is asked, as lines ``NAME=VALUE``; see ``udr_training.answering.read_settings``.
        layout: where the prompts of ``chat-logprobs`` and ``metric`` show demonstrations: ``turns`` or ``system``.
        list_options: whether they list the possible answers.
        budget: their tokens, with the answer's; also of kind ``rank``.
        tokenizer: the model whose tokenizer counts those of ``chat-logprobs`` and ``metric``; empty estimates.
        samples: of kind ``metric``: answers per pair.
        listed: of kind ``rank``: candidates per listing.
        picked: of kind ``rank``: how many of them the model names.
        shuffles: of kind ``rank``: how often each candidate is listed.
    """

    lm: str = DEFAULT_LM
    dtype: str = "float32"
    device: str = "cpu"
    context: int = 0
    pack_tokens: int = 0
    kind: str = "likelihood"
    lm_set: tuple[str, ...] = ()
    layout: str = "turns"
    list_options: bool = False
    budget: int = 8192
    tokenizer: str = ""
    samples: int = 1
    listed: int = 10
    picked: int = 3
    shuffles: int = 3

    @property
    def is_answered(self) -> bool:
        """Whether scores come from the answers of a server, which may cost money."""
        return self.kind in ANSWERED

    @property
    def prompts(self) -> PromptSettings:
        """How the prompts of a server that answers are built."""
        return PromptSettings.read(
            layout=self.layout,
            form="text",
            budget=self.budget,
            list_options=self.list_options,
            tokenizer=self.tokenizer or None,
        )

    @property
    def is_told(self) -> bool:
        """Whether scores come from the outcomes of prompts, so that no language model is asked."""
        return self.kind == "outcomes"

    @property
    def shows_context(self) -> bool:
        """Whether the language model reads the context before each candidate."""
        return self.kind in _WITH_CONTEXT

    def check(self) -> None:
        """Raise a ``ConfigError`` unless the kind, the language model and its settings fit."""
        settings = read_settings(self.lm_set)
        for name, kinds in _KINDS_WITH.items():
            if self.kind not in kinds and getattr(self, name) != getattr(type(self), name):
                self._refuse(name, kinds)
        if not is_remote(self.lm):
            if self.kind not in ("likelihood", "outcomes"):
                raise ConfigError(
                    f"feedback.kind {self.kind!r} needs the address of a server as feedback.lm, found {self.lm!r}"
                )
            if self.lm_set:
                raise ConfigError(f"feedback.lm_set is for the address of a server, found {self.lm!r}")
            return
        if self.is_told:
            return
        chat = read_address(self.lm).api is Api.CHAT
        if not self.is_answered and chat:
            raise ConfigError(
                f"feedback.kind {self.kind!r} needs a server that echoes prompts, but {self.lm} is a chat server; use "
                "feedback.kind 'chat-logprobs', 'metric' or 'rank'"
            )
        if self.kind in ("chat-logprobs", "rank") and not chat:
            raise ConfigError(f"feedback.kind {self.kind!r} needs a chat server; add &api=chat to {self.lm}")
        if self.is_answered and not chat and self.layout != Layout.TURNS:
            raise ConfigError(f"feedback.layout is of chat messages, but {self.lm} is asked by texts; add &api=chat")
        temperature = settings.body.get("temperature", 0)
        if self.samples > 1 and temperature == 0:
            raise ConfigError(
                f"feedback.samples = {self.samples} needs answers that differ; add --lm-set body.temperature=0.7"
            )

    def check_context(self, context: object) -> None:
        """Raise a ``ConfigError`` if a context is asked for that the kind does not show; presets have one for all."""
        if context and not self.shows_context:
            self._refuse("context", _WITH_CONTEXT)

    def _refuse(self, name: str, kinds: Sequence[str]) -> None:
        *others, last = kinds
        of = f"{', '.join(others)} and {last}" if others else last
        raise ConfigError(f"feedback.{name} has no effect with feedback.kind {self.kind!r}; omit it: it is for {of}")


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Everything that scores depend on, apart from the rows.

    Raises:
        ConfigError: a value is invalid.
    """

    tasks: tuple[str, ...] = ()
    seed: int = 0
    candidates: CandidateConfig = CandidateConfig()
    feedback: FeedbackConfig = FeedbackConfig()

    def __post_init__(self) -> None:
        self._check_at_least(
            0, "seed candidates.pool candidates.queries candidates.shared feedback.context feedback.pack_tokens"
        )
        self._check_at_least(1, "candidates.num_candidates")
        self._check_shares("candidates.random_share")
        self._check_among("feedback.dtype", DTYPES)
        self._check_among("feedback.kind", KINDS)
        self._check_among("feedback.layout", tuple(Layout))
        self._check_at_least(1, "feedback.budget feedback.samples feedback.picked feedback.shuffles")
        self._check_at_least(2, "feedback.listed")
        self.feedback.check()
        self._check_among("candidates.later", LATER)
        num_random = self.candidates.num_random
        # One more, since a query is never its own candidate.
        if 0 < self.candidates.shared <= max(num_random, self.feedback.context):
            raise ConfigError(
                f"candidates.shared ({self.candidates.shared}) must exceed the {num_random} random candidates of a "
                f"query and feedback.context ({self.feedback.context}), or be 0"
            )

    def _check_at_least(self, minimum: int, names: str) -> None:
        self._check(names, lambda value: minimum <= value < math.inf, f"at least {minimum}")

    def _check_shares(self, names: str) -> None:
        self._check(names, lambda value: 0 <= value <= 1, "between 0 and 1")

    def _check_among(self, name: str, choices: Collection[object]) -> None:
        self._check(name, lambda value: value in choices, f"one of {', '.join(map(str, choices))}")

    def _check(self, names: str, is_valid: Callable[[Any], bool], expected: str) -> None:
        for name in names.split():
            value = attrgetter(name)(self)
            if not is_valid(value):
                raise ConfigError(f"{name} must be {expected}, found {value!r}")
