"""The encoder's window: how many texts are longer, and how much of them the encoder does not read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from udr.models.counting import LoadedTokenizer, load_tokenizer


@dataclass(frozen=True, slots=True)
class TextWindow:
    """The longest text that an encoder reads whole, in tokens, those around the text included; and what counts them."""

    tokens: int
    counter: LoadedTokenizer

    @staticmethod
    def of(tokens: int | None, folder: Path) -> "TextWindow | None":
        """Return the window of a model's folder; None if it has no limit, or no ``tokenizer.json`` to count by."""
        file = next(iter(sorted(folder.rglob("tokenizer.json"))), None)
        return None if tokens is None or file is None else TextWindow(tokens, load_tokenizer(str(file)))

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text, those around it included."""
        around = self.counter.count("")
        return [around + count for count in self.counter.counts_inside(list(texts))]


class LongTexts:
    """Counts the texts that exceed a window; None counts nothing."""

    def __init__(self, window: TextWindow | None) -> None:
        self._window = window
        self.total, self.count, self.longest = 0, 0, 0
        self._tokens, self._cut = 0, 0

    def add(self, texts: Sequence[str]) -> list[bool]:
        """Count more texts, and return for each whether it exceeds the window."""
        if self._window is None or not texts:
            return [False] * len(texts)
        lengths = self._window.lengths(texts)
        long = [length for length in lengths if length > self._window.tokens]
        self.total, self.count = self.total + len(texts), self.count + len(long)
        self.longest = max(self.longest, *lengths)
        self._tokens, self._cut = self._tokens + sum(long), self._cut + sum(long) - len(long) * self._window.tokens
        return [length > self._window.tokens for length in lengths]

    def notice(self, name: str = "rows") -> str | None:
        """Return how many texts are cut and what to do, in one line; None if none is."""
        if self._window is None or not self.count:
            return None
        return (
            f"{self.count:,} of {self.total:,} {name} {'is' if self.count == 1 else 'are'} longer than the encoder's "
            f"{self._window.tokens:,} tokens, the longest {self.longest:,}; {self._cut / self._tokens:.0%} of their "
            "text is not read; shorten them, or put the fields that differ first with encoder_input in task.toml"
        )
