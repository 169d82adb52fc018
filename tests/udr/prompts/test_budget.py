"""What fits is decided by counts of whole prompts, at the cost of few counts; and truncation keeps as much as fits."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from udr.models import FileTokenizer, TokenCounter
from udr.prompts import TRUNCATION_MARK, Block, PromptLayout, fit, truncate


class Counter:
    """Counts by a function, and counts the characters that it reads."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count, self.characters = count, 0

    def count(self, text: str) -> int:
        self.characters += len(text)
        return self._count(text)


def byte_pair_tokenizer() -> FileTokenizer:
    """Byte pairs that merge across blank lines and into the punctuation before them, and a BOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
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
    "not additive at all": Counter(lambda text: len(text) + sum(map(ord, text[:40])) % 50),
}
PART = st.text(alphabet="ab. \n?", max_size=30)


def last_first(positions: Sequence[int]) -> Sequence[int]:
    return sorted(positions, reverse=True)


def test_demonstrations_that_all_fit_are_arranged_a_few_times() -> None:
    arranged: list[int] = []

    def counting(positions: Sequence[int]) -> Sequence[int]:
        arranged.append(len(positions))
        return last_first(positions)

    layout = PromptLayout(Counter(len), "say", [Block((f"word {n}",)) for n in range(50)], "what ?", counting)
    assert [*fit(layout, 10**6)] == [*range(50)]
    assert arranged == [50, 50]


def greedy(layout: PromptLayout, limit: int) -> tuple[int, ...]:
    """The definition: take what fits by a count of the whole prompt each time."""
    taken: tuple[int, ...] = ()
    for position in range(len(layout.blocks)):
        if layout.count(layout.arranged((*taken, position))) <= limit:
            taken = (*taken, position)
    return taken


@settings(max_examples=50)
@pytest.mark.parametrize("name", COUNTERS)
@given(instruction=PART, parts=st.lists(PART, max_size=8), query=PART, room=st.integers(0, 120))
def test_fit_is_greedy_by_counts_of_whole_prompts(
    name: str, instruction: str, parts: list[str], query: str, room: int
) -> None:
    layout = PromptLayout(COUNTERS[name], instruction, [Block((part,)) for part in parts], query, last_first)
    bare = layout.count(())
    taken = fit(layout, bare + room)
    # If counts do not add up, the result may differ from the definition, but it still fits.
    assert tuple(taken) == greedy(layout, bare + room) or name == "not additive at all"
    assert bare + sum(taken.values()) == layout.count(layout.arranged(tuple(taken))) <= bare + room


@pytest.mark.parametrize("limit", [200, 4000, 100_000])
def test_the_cost_of_counting_is_linear(limit: int) -> None:
    counter = Counter(lambda text: len(text.split()))
    blocks = [Block(("word " * (30 + position * 37 % 60),)) for position in range(256)]
    fit(PromptLayout(counter, "say", blocks, "what ?", last_first), limit)
    assert counter.characters < 5 * sum(len(block.parts[0]) for block in blocks)


@given(value=st.text(min_size=1, max_size=80), room=st.integers(0, 80))
def test_truncation_keeps_the_longest_beginning_that_fits(value: str, room: int) -> None:
    texts: list[str] = []

    def fits(text: str) -> bool:
        texts.append(text)
        return len(text) <= room + len(TRUNCATION_MARK)

    longest = max((n for n in range(len(value)) if len(value[:n].rstrip()) <= room), default=0)
    kept = value[:longest].rstrip()
    assert truncate(value, fits) == (kept + TRUNCATION_MARK, len(kept))
    assert len(texts) < 10


def test_truncation_needs_room_for_the_mark_and_fits_even_if_longer_texts_have_fewer_tokens() -> None:
    assert truncate("a long text", lambda text: len(text) < len(TRUNCATION_MARK)) is None
    allowed = {TRUNCATION_MARK, "ab" + TRUNCATION_MARK, "abcd" + TRUNCATION_MARK}
    result = truncate("abcdef", allowed.__contains__)
    assert result is not None and result[0] in allowed
