"""A causal language model that workers hold: prompts are laid out here, and scored there."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from udr.models import Scheduler, failed
from udr_training.config import FeedbackConfig
from udr_training.feedback.local.causal_lm import PACK_TOKENS, CausalLM
from udr_training.feedback.local.tokenizer import ModelTokenizer, model_folder
from udr_training.feedback.packing import Likelihoods, Prompt, Tokens, plan
from udr_training.feedback.scoring import PackShard, ScatteredLM, ScoredPack, score_pack

PackScheduler = Scheduler[tuple[Prompt, ...], list[Likelihoods]]


@dataclass(frozen=True)
class LoadLM:
    """Loads the language model of a configuration on a worker."""

    config: FeedbackConfig

    @property
    def identity(self) -> str:
        """The identity of the model that this process has, which a worker's has to equal."""
        return _identity(model_folder(self.config.lm)[1], self.config.dtype)

    def __call__(self) -> tuple[str, Callable[[tuple[Prompt, ...]], list[Likelihoods]]]:
        """Return the identity of the model that was loaded, and what scores a pack with it."""
        config = self.config
        lm = CausalLM.load(config.lm, config.device, config.dtype, config.pack_tokens or None)
        return _identity(lm.fingerprint, lm.dtype), partial(score_pack, lm)


class ScatteredCausalLM(ScatteredLM):
    """Lays out prompts exactly as ``CausalLM`` does, and has workers score the packs.

    Args:
        config: names the model.
        scheduler: of workers that hold it.

    Raises:
        ModelError: there is no such model, or it has no tokenizer.
    """

    def __init__(self, config: FeedbackConfig, scheduler: PackScheduler) -> None:
        self.fingerprint, self.dtype = model_folder(config.lm)[1], config.dtype
        self._tokenizer, self._scheduler = ModelTokenizer.load(config.lm), scheduler
        self._pack_tokens = config.pack_tokens or PACK_TOKENS.get(config.device, PACK_TOKENS["cpu"])

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

    def check(self) -> None:
        """Raise a ``PartialError`` with the pairs that no worker could score."""
        if self._scheduler.failures:
            raise failed(self._scheduler.failures, "pairs")


def _identity(fingerprint: str, dtype: str) -> str:
    return f"language model {fingerprint} in {dtype}"
