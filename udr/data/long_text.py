"""How a long text hangs together: numbers from its words alone, for any language whose words udr can split.

After the statistical measures of LongWanjuan (Lv et al., 2024, arXiv 2402.13583), which tell whole texts from chaotic
ones and from several that were joined. All are pure functions of one text.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data.formatting import value_text
from udr.search import RULE, RULES
from udr.types import Row

FEWEST_SENTENCES = 8
"""The shortest text that is long enough for these numbers to say something."""

MOST_SENTENCES = 2000
"""Of longer texts, the rest is not measured: time and memory grow with the square of their number."""

_SENTENCES = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])[”’」』）]*|\n+")
_UNSPACED = re.compile(r"[\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_NAMES = re.compile(r"(?<=[\w,;:] )[A-Z]\w+|\b\d[\d.,]*\b")
_CONNECTIVES = re.compile(
    r"\b(?:because|since|although|though|while|whereas|unless|however|therefore|thus|hence|moreover|furthermore|besides|"
    r"also|then|next|finally|first|second|third|meanwhile|afterwards|later|but|so|yet|instead|otherwise|nevertheless|"
    r"similarly|likewise|consequently|accordingly|specifically|for example|for instance|in addition|in contrast|"
    r"in particular|as a result|on the other hand)\b"
    r"|因为|由于|因此|所以|于是|从而|但是|然而|不过|虽然|尽管|而且|并且|此外|另外|同时|如果|例如|比如|首先|其次|然后|最后|接着|总之",
    re.IGNORECASE,
)

_SHORT, _STEM, _WINDOW, _LONG_WORD, _FEWEST_APART = 3, 6, 50, 6, 3
"""Letters of a word that says little, and that stand for a word's forms; words of a window; letters that a long word
exceeds; and the fewest sentences of a part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LongText:
    """Numbers about one text; of more than ``MOST_SENTENCES``, all but ``sentences`` are about the first of them.

    Attributes:
        sentences: how many there are.
        connectives: the share of sentences with a connective (because, however, 因此, ...), in English and Chinese.
        chains: by how much sentences share more words with near ones than with any, in standard errors; about 0 if
            their order is random.
        parts: by how much sentences share more words within two parts than across, as a multiple of what any two
            share, where the text is best cut in two; high if two texts were joined.
        entities: the share of sentences, after the first, with a name or number that an earlier one has.
        type_token: the mean share of different words among 50 in a row; low if the text repeats itself.
        readability: LIX (words a sentence, and the percentage of words of more than six letters); in Chinese and
            Japanese, characters a sentence. Higher is harder.
    """

    sentences: int
    connectives: float
    chains: float
    parts: float
    entities: float
    type_token: float
    readability: float


def longest_text(row: Row) -> str:
    """Return the text of a row's longest field; empty without a field."""
    return max(map(value_text, row.input.values()), key=len, default="")


def sentences_of(text: str) -> list[str]:
    """Return a text's sentences: what ends with a mark, or with a line."""
    return [part for part in map(str.strip, _SENTENCES.split(text)) if part]


def measure_text(text: str, *, most: int = MOST_SENTENCES) -> LongText:
    """Measure the first ``most`` sentences of a text of at least two; ``ValueError`` if it has fewer."""
    every = sentences_of(text)
    if len(every) < 2:
        raise ValueError("the text has fewer than two sentences")
    sentences = every[:most]
    similarities = _similarities(sentences)
    return LongText(
        sentences=len(every),
        connectives=sum(bool(_CONNECTIVES.search(sentence)) for sentence in sentences) / len(sentences),
        chains=_chains(similarities),
        parts=_parts(similarities),
        entities=_entities(sentences),
        type_token=_type_token(RULES[RULE](" ".join(sentences))),
        readability=_readability(sentences),
    )


def _similarities(sentences: Sequence[str]) -> NDArray[np.float64]:
    """Return the cosine of the words of each two sentences, weighted by rarity, [num_sentences, num_sentences]."""
    words = [{_stem(word) for word in RULES[RULE](sentence) if _says_much(word)} for sentence in sentences]
    frequency = Counter(word for own in words for word in own)
    columns = {word: column for column, word in enumerate(frequency)}
    weights = np.zeros((len(sentences), len(columns)))
    for line, own in enumerate(words):
        for word in own:
            weights[line, columns[word]] = np.log(1 + len(sentences) / frequency[word])
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    units = weights / np.where(lengths > 0, lengths, 1.0)
    result: NDArray[np.float64] = units @ units.T
    return result


def _says_much(word: str) -> bool:
    return not word.isascii() or len(word) > _SHORT


def _stem(word: str) -> str:
    return word[:_STEM] if word.isascii() else word


def _chains(similarities: NDArray[np.float64]) -> float:
    first, second = np.triu_indices(len(similarities), 1)
    pairs, nearness = similarities[first, second], 1.0 / (second - first)
    spread = float(pairs.std())
    if spread == 0:
        return 0.0
    return float((np.average(pairs, weights=nearness) - pairs.mean()) / spread * np.sqrt(len(similarities) - 1))


def _parts(similarities: NDArray[np.float64]) -> float:
    count = len(similarities)
    cuts = np.arange(_FEWEST_APART, count - _FEWEST_APART + 1)
    pairs, num_pairs = np.triu(similarities, 1), count * (count - 1) / 2
    total = pairs.sum()
    if not len(cuts) or total <= 0:
        return 0.0
    # A sentence that comes before the cut takes its pairs with later ones across, and those with earlier ones within.
    across = np.cumsum(pairs.sum(axis=1) - pairs.sum(axis=0))[cuts - 1]
    num_across = cuts * (count - cuts)
    gaps = (total - across) / (num_pairs - num_across) - across / num_across
    return max(0.0, float(gaps.max() / (total / num_pairs)))


def _entities(sentences: Sequence[str]) -> float:
    known: set[str] = set()
    chained = 0
    for number, sentence in enumerate(sentences):
        names = set(_NAMES.findall(sentence))
        chained += number > 0 and bool(names & known)
        known |= names
    return chained / (len(sentences) - 1)


def _type_token(words: Sequence[str]) -> float:
    windows = [words[start : start + _WINDOW] for start in range(max(1, len(words) - _WINDOW + 1))]
    return float(np.mean([len(set(window)) / max(len(window), 1) for window in windows]))


def _readability(sentences: Sequence[str]) -> float:
    text = " ".join(sentences)
    words = re.findall(r"\w+", text)
    if 2 * len(_UNSPACED.findall(text)) > len(text):
        return sum(map(len, sentences)) / len(sentences)
    return len(words) / len(sentences) + 100 * sum(len(word) > _LONG_WORD for word in words) / max(len(words), 1)
