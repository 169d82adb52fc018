"""What fits is what counts of whole prompts say; few such counts are needed to know."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from udr.models import FileTokenizer, TokenCounter
from udr.prompts import Block, PromptLayout, fit


class Counter:
    """Counts by a function, and remembers how many characters it was asked about."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count, self.characters = count, 0

    def count(self, text: str) -> int:
        self.characters += len(text)
        return self._count(text)


def byte_pair_tokenizer() -> FileTokenizer:
    """Byte pairs that merge across blank lines and into the punctuation before them, and a BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["ab a.\n\nab b.\n\nba\n\n\nab? \n\naa b b\n\n" * 40], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return FileTokenizer("bytes", tokenizer)


COUNTERS: dict[str, TokenCounter] = {
    "characters": Counter(len),
    "words": Counter(lambda text: len(text.split())),
    "characters by four, rounded up": Counter(lambda text: -(-len(text) // 4)),
    "words and two specials": Counter(lambda text: len(text.split()) + 2),
    "byte pairs": byte_pair_tokenizer(),
}

PART = st.text(alphabet="ab. \n?", max_size=30)


def greedy(draft: PromptLayout, limit: int) -> tuple[int, ...]:
    """The definition: take what fits, by a count of the whole each time."""
    taken: tuple[int, ...] = ()
    for position in range(len(draft.blocks)):
        if draft.count(draft.arranged((*taken, position))) <= limit:
            taken = (*taken, position)
    return taken


@pytest.mark.parametrize("counter", COUNTERS.values(), ids=list(COUNTERS))
@given(instruction=PART, parts=st.lists(PART, max_size=8), query=PART, room=st.integers(0, 120))
def test_fit_is_greedy_by_counts_of_the_whole(
    counter: TokenCounter, instruction: str, parts: list[str], query: str, room: int
) -> None:
    draft = PromptLayout(counter, instruction, [Block((part,)) for part in parts], query)
    bare = draft.count(())
    taken = fit(draft, bare + room)
    assert tuple(taken) == greedy(draft, bare + room)
    assert bare + sum(taken.values()) == draft.count(draft.arranged(tuple(taken))) <= bare + room


class Whimsical:
    """No tokenizer at all: a text's count is its length give or take what its last characters say."""

    def count(self, text: str) -> int:
        return len(text) + sum(map(ord, text[:40])) % 50


@given(parts=st.lists(PART, max_size=8), room=st.integers(0, 120))
def test_fit_never_exceeds_the_limit_however_a_counter_counts(parts: list[str], room: int) -> None:
    draft = PromptLayout(Whimsical(), "a", [Block((part,)) for part in parts], "b")
    bare = draft.count(())
    taken = fit(draft, bare + room)
    assert bare + sum(taken.values()) == draft.count(draft.arranged(tuple(taken))) <= bare + room


def words(*numbers: int) -> list[Block]:
    return [Block(("word " * number,)) for number in numbers]


def test_exactly_the_limit_fits() -> None:
    draft = PromptLayout(COUNTERS["words"], "say", words(5, 5, 5), "what ?")
    assert dict(fit(draft, 18)) == {0: 5, 1: 5, 2: 5}
    assert dict(fit(draft, 17)) == {0: 5, 1: 5}


def test_what_does_not_fit_is_passed_over_for_the_next() -> None:
    draft = PromptLayout(COUNTERS["words"], "say", words(100, 5, 100, 5), "what ?")
    assert dict(fit(draft, 13)) == {1: 5, 3: 5}


def test_counting_costs_a_few_times_the_text_and_not_its_square() -> None:
    numbers = [30 + position * 37 % 60 for position in range(256)]
    for limit in (200, 4000, 100_000):
        counter = Counter(lambda text: len(text.split()))
        draft = PromptLayout(counter, "say", words(*numbers), "what ?")
        fit(draft, limit)
        proposed = sum(len(block.parts[0]) for block in draft.blocks)
        assert counter.characters < 5 * proposed, f"{counter.characters / proposed:.1f} times, at limit {limit}"
