"""A causal language model that workers hold: prompts are laid out here, and scored or continued there."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from udr.models import RunnerOptions, Scheduler, Shard, failed, hub, open_workers, shard_key
from udr_training.config import FeedbackConfig
from udr_training.feedback.local.causal_lm import PACK_TOKENS, CausalLM
from udr_training.feedback.local.generation import BATCH_TOKENS, batches
from udr_training.feedback.local.tokenizer import ModelTokenizer, model_folder
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens, plan
from udr_training.feedback.scoring import PackShard, ScatteredLM, ScoredPack, score_pack

_NAMED_TOKENS = 24
"""The last tokens of a prompt by which a report of failures names it."""


@dataclass(frozen=True, slots=True)
class Continuations:
    """Prompts that are continued together; see ``CausalLM.generate``."""

    prompts: tuple[Tokens, ...]
    stop: tuple[str, ...]
    max_new_tokens: int
    empty: bool = False


LMWork = tuple[Prompt, ...] | Continuations
"""A pack to score, which gives likelihoods, or prompts to continue, which give texts."""

PackScheduler = Scheduler[Any, list[Any]]


@dataclass(frozen=True)
class LoadLM:
    """Loads the language model of a configuration on a worker."""

    config: FeedbackConfig

    @property
    def identity(self) -> str:
        """The identity of the model that this process has, which a worker's has to equal."""
        return _identity(model_folder(self.config.lm)[1], self.config.dtype)

    def __call__(self) -> tuple[str, Callable[[LMWork], list[Any]]]:
        """Return the identity of the model that was loaded, and what does a worker's work with it."""
        lm = load_local(self.config)
        return _identity(lm.fingerprint, lm.dtype), partial(_do, lm)


def _do(lm: CausalLM, work: LMWork) -> list[Any]:
    if isinstance(work, Continuations):
        return lm.generate(work.prompts, work.stop, work.max_new_tokens, empty=work.empty)
    return score_pack(lm, work)


class ScatteredCausalLM(ScatteredLM):
    """Lays out prompts exactly as ``CausalLM`` does, and has workers score the packs and continue the batches.

    So its results are those of one process; an answering model's, too (``likelihoods``, ``generate``).

    Args:
        config: names the model.
        scheduler: of workers that hold it.

    Raises:
        ModelError: there is no such model, or it has no tokenizer.
    """

    def __init__(self, config: FeedbackConfig, scheduler: PackScheduler) -> None:
        self.name, self.fingerprint, self.dtype = config.lm, model_folder(config.lm)[1], config.dtype
        self._tokenizer, self._scheduler = ModelTokenizer.load(config.lm), scheduler
        device = config.device.partition(":")[0]
        self._pack_tokens = config.pack_tokens or PACK_TOKENS.get(device, PACK_TOKENS["cpu"])
        self._batch_tokens = BATCH_TOKENS.get(device, BATCH_TOKENS["cpu"])

    @property
    def context(self) -> int:
        """The longest sequence of the model, in tokens."""
        return self._tokenizer.context

    @property
    def spent(self) -> str:
        """The workers' pairs per second, in words."""
        return self._scheduler.note

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        """Return the tokens of one segment of a prompt; see ``ModelTokenizer``."""
        return self._tokenizer.tokens(text, start=start)

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return which prompts to score together, as positions."""
        return plan(prompts, self._pack_tokens)

    def run(self, shards: Iterable[PackShard]) -> Iterator[ScoredPack]:
        """Yield packs as workers score them."""
        return self._scheduler.run(shards)

    def score(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
        """Return the likelihoods of the options of prompts that are scored together."""
        return list(self._results([range(len(prompts))], [tuple(prompts)]).values())

    def likelihoods(
        self, prompts: Sequence[Prompt], on_done: Callable[[int], None] = lambda _: None
    ) -> list[Likelihoods]:
        """See ``CausalLM.likelihoods``; ``PartialError`` if no worker could score some prompts."""
        packs = self.plan(prompts)
        results = self._results(packs, [tuple(prompts[number] for number in numbers) for numbers in packs], on_done)
        return [results[number] for number in range(len(prompts))]

    def generate(
        self,
        prompts: Sequence[Tokens],
        stop: Sequence[str],
        max_new_tokens: int,
        on_done: Callable[[int], None] = lambda _: None,
        *,
        empty: bool = False,
    ) -> list[str]:
        """See ``CausalLM.generate``; ``PartialError`` if no worker could continue some prompts."""
        limits = [min(max_new_tokens, self.context - len(prompt)) for prompt in prompts]
        groups = list(batches(list(map(len, prompts)), limits, self._batch_tokens))
        texts = [tuple(prompts[number] for number in group) for group in groups]
        works = [Continuations(each, tuple(stop), max_new_tokens, empty) for each in texts]
        results = self._results(groups, works, on_done)
        # Those without room are in no batch.
        return [results.get(number, "") for number in range(len(prompts))]

    def _results(
        self,
        groups: Sequence[Sequence[int]],
        works: Sequence[LMWork],
        on_done: Callable[[int], None] = lambda _: None,
    ) -> dict[int, Any]:
        """Return what workers make of the works, by the numbers of the prompts in each of them."""
        numbers: dict[str, Sequence[int]] = {}

        def shards() -> Iterator[Shard[LMWork]]:
            for place, (group, work) in enumerate(zip(groups, works, strict=True)):
                key = shard_key([self.fingerprint, self.dtype, str(place), repr(work)])
                numbers[key] = group
                yield Shard(
                    key, work, tuple(map(self._name, work.prompts if isinstance(work, Continuations) else work))
                )

        results, before = dict[int, Any](), len(self._scheduler.failures)
        for done in self._scheduler.run(shards()):
            results |= dict(zip(numbers[done.shard.key], done.result, strict=True))
            on_done(len(results))
        if failures := self._scheduler.failures[before:]:
            # This tells them; an evaluation goes on, and `check` is of pairs.
            del self._scheduler.failures[before:]
            raise failed(failures, "prompts")
        return results

    def _name(self, prompt: Prompt | Tokens) -> str:
        tokens = prompt.context if isinstance(prompt, Prompt) else prompt
        return f"...{' '.join(self._tokenizer.text(tokens[-_NAMED_TOKENS:]).split())}"

    def check(self) -> None:
        """Raise a ``PartialError`` with the pairs that no worker could score since the last check."""
        failures, self._scheduler.failures = self._scheduler.failures, []
        if failures:
            raise failed(failures, "pairs")


def load_local(config: FeedbackConfig) -> CausalLM:
    """Load a language model in this process, which can also generate; errors as ``CausalLM.load``."""
    return CausalLM.load(config.lm, config.device, config.dtype, config.pack_tokens or None)


@contextmanager
def opened_lm(
    config: FeedbackConfig,
    runner: RunnerOptions = RunnerOptions(),  # noqa: B008
    purpose: str = "feedback",
) -> Iterator[CausalLM | ScatteredCausalLM]:
    """Load a configuration's language model, here or on workers; errors as ``CausalLM.load`` and ``open_workers``.

    ``purpose`` is what it is for, as Ray's dashboard shows it.
    """
    if runner.is_local:
        yield load_local(config)
        return
    runner.check(config.device)
    # Workers of a cluster run in other folders than the command.
    load = LoadLM(replace(config, lm=hub.absolute(config.lm)))
    with open_workers(purpose, load, load.identity, runner, config.device) as workers:
        yield ScatteredCausalLM(config, workers)


def _identity(fingerprint: str, dtype: str) -> str:
    return f"language model {fingerprint} in {dtype}"
