"""A language model whose answers are known by hand: it copies the demonstration it saw last."""

from collections.abc import Callable, Sequence

import numpy as np

from udr_training.feedback.packing import Likelihoods, Prompt, Tokens


class CopyLM:
    """Answers with the target of the last demonstration it is shown, and is interrupted after ``fail_after`` answers.

    Characters are its tokens. It counts the prompts that it was asked to answer and those that it scored.
    """

    name, fingerprint, dtype, context = "copy", "copy-1", "float32", 100_000

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked, self.scored, self._fail_after = 0, 0, fail_after

    def tokens(self, text: str, *, start: bool = False) -> Tokens:
        return tuple(map(ord, text))

    def plan(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return [list(range(len(prompts)))]

    def score(self, prompts: Sequence[Prompt]) -> list[Likelihoods]:
        self.scored += len(prompts)
        return [_copied(prompt) for prompt in prompts]

    def likelihoods(
        self, prompts: Sequence[Prompt], on_done: Callable[[int], None] = lambda _: None
    ) -> list[Likelihoods]:
        self._ask(len(prompts))
        on_done(len(prompts))
        return [_copied(prompt) for prompt in prompts]

    def generate(
        self,
        prompts: Sequence[Tokens],
        stop: Sequence[str],
        max_new_tokens: int,
        on_done: Callable[[int], None] = lambda _: None,
        *,
        empty: bool = False,
    ) -> list[str]:
        self._ask(len(prompts))
        texts = ["".join(map(chr, prompt)) for prompt in prompts]
        return [text.split("\n\n")[-2].rpartition("Reversed: ")[2] for text in texts]

    def _ask(self, count: int) -> None:
        if self._fail_after is not None and self.asked + count > self._fail_after:
            raise KeyboardInterrupt
        self.asked += count


def _copied(prompt: Prompt) -> Likelihoods:
    last = "".join(map(chr, prompt.parts[-2])).strip().rpartition(": ")[2]
    sums = np.array([0.0 if "".join(map(chr, option)).strip() == last else -100.0 for option in prompt.options])
    return Likelihoods(sums, tuple(map(len, prompt.options)))
