"""Task metrics, from 0 to 100, each as statistics of single answers that add up.

A metric maps one answer to a vector of statistics, and the sum of many answers' vectors to a value. Means and
corpus BLEU both have that shape, so one bootstrap serves all of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data import Metric
from udr.errors import MissingExtraError

Statistics = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judge:
    """One metric.

    Attributes:
        statistics: of one answer, from (prediction, references, input text).
        value: from the sum of many answers' statistics.
    """

    statistics: Callable[[str, Sequence[str], str], Statistics]
    value: Callable[[Statistics], float]


def judge(metric: Metric) -> Judge:
    """Return how answers are judged by a metric; all of them range from 0 to 100, higher is better."""
    if metric is Metric.BLEU:
        return Judge(_bleu_statistics, _bleu_value)
    answer_value = _ANSWERS[metric]
    return Judge(lambda *answer: np.array([answer_value(*answer), 1.0]), lambda sums: 100 * float(sums[0] / sums[1]))


def exact_match(prediction: str, references: Sequence[str], _: str = "") -> float:
    """Return 1 where the prediction is one of the references, white space aside."""
    return float(" ".join(prediction.split()) in {" ".join(reference.split()) for reference in references})


def final_answer(prediction: str, references: Sequence[str], _: str = "") -> float:
    """Return 1 where what follows the last ``####`` is the same number or text as in a reference."""
    return float(_final(prediction) in {_final(reference) for reference in references})


def _final(text: str) -> str:
    answer = text.rpartition("####")[2].strip().rstrip(".").replace(",", "").removeprefix("$")
    return str(float(answer)) if re.fullmatch(r"-?\d+(\.\d+)?", answer) else answer


def rouge_l(prediction: str, references: Sequence[str], _: str = "") -> float:
    """Return the best ROUGE-L F1 over the references, with stemming."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MissingExtraError("rouge-score", "training") from error
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return float(max(scorer.score(reference, prediction)["rougeL"].fmeasure for reference in references))


def sari(prediction: str, references: Sequence[str], source: str) -> float:
    """Return SARI (Xu et al. 2016), 0 to 1: how well words were added, kept and deleted, over 1- to 4-grams."""
    return float(np.mean([_sari_order(prediction, references, source, order) for order in range(1, 5)]))


def _sari_order(prediction: str, references: Sequence[str], source: str, order: int) -> float:
    def grams(text: str) -> Counter[tuple[str, ...]]:
        words = text.lower().split()
        return Counter(zip(*(words[start:] for start in range(order)), strict=False))

    before, after = grams(source), grams(prediction)
    number = len(references)
    golds: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        golds += grams(reference)
    # Counts of source and prediction are scaled by the number of references, as in the paper.
    before, after = (Counter({gram: count * number for gram, count in c.items()}) for c in (before, after))
    kept, deserved = before & after, before & golds
    right = kept & golds
    keep_precision = _ratio(sum(right[gram] / kept[gram] for gram in right), len(kept))
    keep = _f1(keep_precision, _ratio(sum(right[gram] / deserved[gram] for gram in right), len(deserved)))
    deleted = before - after
    rightly = deleted - golds
    delete = _ratio(sum(rightly[gram] / deleted[gram] for gram in rightly), len(deleted))
    added, wanted = set(after) - set(before), set(golds) - set(before)
    both = len(added & set(golds))
    add = _f1(_ratio(both, len(added)), _ratio(both, len(wanted)))
    return (keep + delete + add) / 3


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


_ANSWERS: dict[Metric, Callable[[str, Sequence[str], str], float]] = {
    Metric.ACCURACY: exact_match,
    Metric.EXACT_MATCH: exact_match,
    Metric.FINAL_ANSWER: final_answer,
    Metric.ROUGE_L: rouge_l,
    Metric.SARI: sari,
}


def _bleu_statistics(prediction: str, references: Sequence[str], _: str) -> Statistics:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingExtraError("sacrebleu", "training") from error
    one = BLEU(effective_order=True).sentence_score(prediction, list(references))
    return np.array([*one.counts, *one.totals, one.sys_len, one.ref_len], dtype=np.float64)


def _bleu_value(sums: Statistics) -> float:
    from sacrebleu.metrics.bleu import BLEU

    whole = [int(value) for value in sums]
    return float(BLEU.compute_bleu(whole[:4], whole[4:8], whole[8], whole[9]).score)
