"""Task metrics, from 0 to 100, each as statistics of single answers that add up.

A metric maps an answer to a vector of statistics, and the sum of many answers' vectors to a value. Means and corpus
BLEU both have that form, so one bootstrap serves all metrics.

Texts are compared by their words. In scripts without spaces between words, such as Chinese, each character counts as
one.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from udr.data import Metric
from udr.errors import MissingExtraError
from udr.search import RULE, RULES, folded, spaced
from udr_training.answering.parsing import MINUS

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEUScore

Statistics = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judge:
    """One metric.

    Attributes:
        statistics: of one answer, from (prediction, references, input text).
        value: from the sum of many answers' statistics.
        is_mean: whether the value is the mean of the answers' own, which are their first statistic, 0 to 1.
    """

    statistics: Callable[[str, Sequence[str], str], Statistics]
    value: Callable[[Statistics], float]
    is_mean: bool


def judge(metric: Metric) -> Judge:
    """Return the functions of a metric; its values range from 0 to 100, higher is better."""
    if metric is Metric.BLEU:
        return Judge(_bleu_statistics, _bleu_value, is_mean=False)
    value_of = _ANSWER_VALUES[metric]

    def value(sums: Statistics) -> float:
        return 100 * float(sums[0] / sums[1])

    return Judge(lambda *answer: np.array([value_of(*answer), 1.0]), value, is_mean=True)


def answer_value(metric: Metric, prediction: str, references: Sequence[str], source: str) -> float:
    """Return the value of one answer, 0 to 1.

    BLEU of a corpus of one answer is 0 wherever no four words in a row are right, so of all short ones. This is that of
    a sentence: orders that a text is too short for are left out, and those without a match are smoothed (NIST's way).
    """
    return _ANSWER_VALUES[metric](prediction, references, source)


_PACKAGES = {Metric.ROUGE_L: "rouge_score", Metric.BLEU: "sacrebleu"}


def check_metric(metric: Metric) -> None:
    """Raise ``MissingExtraError`` if the package of a metric is not installed; nothing is imported."""
    package = _PACKAGES.get(metric)
    if package is not None and find_spec(package) is None:
        raise MissingExtraError(f"{package}, which the metric {metric} needs,", "training")


def exact_match(prediction: str, references: Sequence[str], _: str = "") -> float:
    """Return 1 if the prediction is one of the references, up to white space."""
    return float(" ".join(prediction.split()) in {" ".join(reference.split()) for reference in references})


def final_answer(prediction: str, references: Sequence[str], _: str = "") -> float:
    """Return 1 if the number or text after the last ``####`` is that of a reference; numbers are exact."""
    return float(_final(prediction) in {_final(reference) for reference in references})


# What may stand around a number: emphasis, a full stop, a currency before or after it.
_EMPHASIS = " \t\r\n*_`"
_CURRENCY = re.compile(r"\A([-+−–—]?)[$€£¥]\s*|\s*[$€£¥]\Z")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+|(?=\.))(?:\.\d+)?")


def _final(text: str) -> Decimal | str:
    answer = text.rpartition("####")[2].lstrip(_EMPHASIS).rstrip(f"{_EMPHASIS}.")
    number = MINUS.sub("-", _CURRENCY.sub(r"\1", answer))
    return Decimal(number.replace(",", "")) if _NUMBER.fullmatch(number) else answer


def rouge_l(prediction: str, references: Sequence[str], _: str = "") -> float:
    """Return the best ROUGE-L F1 over the references, with stemming; 1 for an empty answer that should be empty."""
    if not prediction.strip():
        return float(any(not reference.strip() for reference in references))
    score = _rouge_score()
    return float(max(score(reference, prediction)["rougeL"].fmeasure for reference in references))


@cache
def _rouge_score() -> Callable[[str, str], Mapping[str, Any]]:
    try:
        from rouge_score.rouge_scorer import RougeScorer
        from rouge_score.tokenizers import DefaultTokenizer
    except ImportError as error:
        raise MissingExtraError("rouge-score", "training") from error
    scorer = RougeScorer(["rougeL"], tokenizer=_Words(DefaultTokenizer(use_stemmer=True).tokenize))
    return cast("Callable[[str, str], Mapping[str, Any]]", scorer.score)


class _Words:
    """Splits texts for ROUGE: as its own tokenizer, which drops all but a-z and 0-9, and keeps other words whole."""

    def __init__(self, english: Callable[[str], list[str]]) -> None:
        self._english = english

    def tokenize(self, text: str) -> list[str]:
        words = RULES[RULE](spaced(folded(text)))
        return [part for word in words for part in (self._english(word) if word.isascii() else (word,))]


def sari(prediction: str, references: Sequence[str], source: str) -> float:
    """Return SARI (Xu et al. 2016), 0 to 1: how well 1- to 4-grams were added, kept and deleted."""
    return float(np.mean([_sari_order(prediction, references, source, order) for order in range(1, 5)]))


def _sari_order(prediction: str, references: Sequence[str], source: str, order: int) -> float:
    def grams(text: str) -> Counter[tuple[str, ...]]:
        words = spaced(text.lower()).split()
        return Counter(zip(*(words[start:] for start in range(order)), strict=False))

    golds = sum((grams(reference) for reference in references), Counter())
    # Counts of source and prediction are scaled by the number of references, as in the paper.
    before, after = (
        Counter({gram: count * len(references) for gram, count in grams(text).items()}) for text in (source, prediction)
    )
    kept, to_keep, deleted = before & after, before & golds, before - after
    keep = _f1(_mean_share(kept & golds, kept), _mean_share(kept & golds, to_keep))
    delete = _mean_share(deleted - golds, deleted)
    added, to_add = after.keys() - before.keys(), golds.keys() - before.keys()
    right = len(added & golds.keys())
    add = _f1(_ratio(right, len(added)), _ratio(right, len(to_add)))
    return (keep + delete + add) / 3


def _mean_share(part: Counter[tuple[str, ...]], whole: Counter[tuple[str, ...]]) -> float:
    return _ratio(sum(part[gram] / whole[gram] for gram in part), len(whole))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _sentence_bleu(prediction: str, references: Sequence[str]) -> "BLEUScore":
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingExtraError("sacrebleu", "training") from error
    return BLEU(effective_order=True).sentence_score(spaced(prediction), list(map(spaced, references)))


def bleu(prediction: str, references: Sequence[str], _: str = "") -> float:
    """Return BLEU of a sentence, 0 to 1, with smoothing."""
    return _sentence_bleu(prediction, references).score / 100


_ANSWER_VALUES: dict[Metric, Callable[[str, Sequence[str], str], float]] = {
    Metric.ACCURACY: exact_match,
    Metric.EXACT_MATCH: exact_match,
    Metric.FINAL_ANSWER: final_answer,
    Metric.ROUGE_L: rouge_l,
    Metric.SARI: sari,
    Metric.BLEU: bleu,
}


def _bleu_statistics(prediction: str, references: Sequence[str], _: str) -> Statistics:
    score = _sentence_bleu(prediction, references)
    return np.array([*score.counts, *score.totals, score.sys_len, score.ref_len], dtype=np.float64)


def _bleu_value(sums: Statistics) -> float:
    from sacrebleu.metrics.bleu import BLEU

    counts = [int(value) for value in sums]
    # Smoothed as sacreBLEU does by default, which only counts where few rows have any four words in a row right.
    return float(BLEU.compute_bleu(counts[:4], counts[4:8], counts[8], counts[9], smooth_method="exp").score)
