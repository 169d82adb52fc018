"""Metrics against values computed by hand or by their own libraries."""

import numpy as np
import pytest

from udr.data import Metric
from udr_training.answering import answer_value, exact_match, final_answer, judge, rouge_l, sari

Answers = list[tuple[str, list[str], str]]


def value(metric: Metric, answers: Answers) -> float:
    judged = judge(metric)
    return judged.value(np.sum([judged.statistics(*answer) for answer in answers], axis=0))


def test_accuracy_is_the_share_of_answers_that_match_up_to_white_space() -> None:
    assert value(Metric.ACCURACY, [("a", ["a"], ""), ("b", ["a"], ""), ("c", ["c"], ""), ("d", ["c"], "")]) == 50.0
    assert (exact_match(" SELECT  x ", ["SELECT x"]), exact_match("select x", ["SELECT x"])) == (1, 0)


@pytest.mark.parametrize(
    ("prediction", "right"),
    [("so 2 + 2 = 4\n#### 4", 1), ("#### 4.0", 1), ("#### $4.", 1), ("#### 5", 0), ("4", 1), ("", 0)],
)
def test_final_answer_follows_the_hashes(prediction: str, right: float) -> None:
    assert final_answer(prediction, ["We add.\n#### 4"]) == right


@pytest.mark.parametrize(
    ("prediction", "reference", "right"),
    [
        ("3,4", "34", 0),
        ("1,234.50", "1234.5", 1),
        ("12,34", "1234", 0),
        ("12345678901234567890", "12345678901234567891", 0),
        ("**18**.", "18", 1),
        ("$ 18", "18", 1),
        ("18 €", "18", 1),
        ("\N{MINUS SIGN}5", "-5", 1),
        ("-$5", "-5", 1),
        ("$-5", "-5", 1),
        ("\N{EN DASH}$1,000", "-1000.0", 1),
        ("-0", "0", 1),
        ("+.5", "0.5", 1),
        ("- 5", "-5", 0),
        ("50%", "50", 0),
        ("Paris, Texas", "Paris Texas", 0),
        ("*Paris.*", "Paris", 1),
    ],
)
def test_final_numbers_are_read_as_people_write_them(prediction: str, reference: str, right: float) -> None:
    assert final_answer(f"So.\n#### {prediction}", [f"#### {reference}"]) == right


def test_rouge_l_uses_the_best_reference() -> None:
    # The longest common subsequence is "the cat": recall 2/3, precision 2/2.
    assert rouge_l("the cat", ["the black cat", "a dog"]) == pytest.approx(0.8)
    assert [rouge_l("", references) for references in (["", "a"], ["a"])] == [1, 0] and rouge_l("a", [""]) == 0


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("The runners' shoes, x_1 were re-tied 3.5 times!", "the runner ties its shoe X_1 at 3.5"),
        ("“Curly” quotes – and dashes…", "curly quotes and a dash"),
    ],
)
def test_rouge_l_of_english_is_that_of_its_package(prediction: str, reference: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    expected = RougeScorer(["rougeL"], use_stemmer=True).score(reference, prediction)["rougeL"].fmeasure
    assert 0 < expected < 1 and rouge_l(prediction, [reference]) == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        # Three of four words in common, then three of five and four characters.
        ("Мама мыла белую раму.", "мама мыла раму", 6 / 7),
        ("Το σπίτι είναι μεγάλο", "το σπίτι είναι μικρό", 3 / 4),
        ("我爱北京市", "我爱北方", 2 * 3 / (5 + 4)),
        ("お寿司", "寿司", 4 / 5),
        ("iPhone手机", "手机 iphone", 2 * 2 / (3 + 3)),
        ("Zürich", "zurich", 0),
        ("café", "CAFE\u0301", 1),
    ],
)
def test_rouge_l_counts_words_of_other_scripts(prediction: str, reference: str, expected: float) -> None:
    assert rouge_l(prediction, [reference]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("tokenize", "prediction", "reference"),
    [
        ("zh", "我们今天去北京，看iPhone手机。", "我们明天去北京，买iPhone手机。"),
        ("char", "東京に行きたいです。", "東京へ行きたいです。"),
        ("13a", "Мама мыла белую раму вчера.", "Мама мыла белую раму, вчера."),
        ("13a", "Zürich ist schön – sehr schön.", "Zürich ist sehr schön – sehr schön!"),
    ],
)
def test_bleu_of_other_scripts_is_that_of_sacrebleus_own_tokenizers(
    tokenize: str, prediction: str, reference: str
) -> None:
    from sacrebleu.metrics.bleu import BLEU

    expected = BLEU(tokenize=tokenize).corpus_score([prediction], [[reference]]).score
    assert 10 < expected < 90
    assert value(Metric.BLEU, [(prediction, [reference], "")]) == pytest.approx(expected, abs=1e-6)


def test_sari_splits_texts_without_spaces() -> None:
    apart = [" ".join(text) for text in ("猫坐在垫子上", "猫在垫子上", "小猫坐在垫子上")]
    expected = sari(apart[1], [apart[2]], apart[0])
    assert 0 < expected < 1 and sari("猫在垫子上", ["小猫坐在垫子上"], "猫坐在垫子上") == expected


@pytest.mark.parametrize(
    "pairs",
    [
        {"the cat sat on the mat": "the cat sat on a mat", "hello there my friend": "hello my friend"},
        # No four words in a row are right.
        {"the cat sat here now": "the cat sat on it", "hello there": "hello my friend"},
    ],
)
def test_bleu_is_corpus_bleu(pairs: dict[str, str]) -> None:
    from sacrebleu.metrics.bleu import BLEU

    expected = BLEU().corpus_score(list(pairs), [list(pairs.values())]).score
    answers: Answers = [(prediction, [reference], "") for prediction, reference in pairs.items()]
    assert value(Metric.BLEU, answers) == pytest.approx(expected, abs=1e-6)


def test_sari_of_one_word_by_hand() -> None:
    # 1-grams: nothing kept or to keep (1), "a" deleted rightly (1), "b" added, not "c" (0): two thirds. There are
    # no longer n-grams, so they have no errors (1).
    assert sari("b", ["c"], "a") == pytest.approx((2 / 3 + 1 + 1 + 1) / 4)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("About 95 you now get in .", 26.82782411698074),
        ("About 95 species are now agreed .", 58.89995423074248),
        ("About 95 species are currently agreed .", 50.71608864657479),
    ],
)
def test_sari_equals_the_authors_script(prediction: str, expected: float) -> None:
    # The example in SARI.py of github.com/cocoxu/simplification.
    references = [
        "About 95 species are currently known .",
        "About 95 species are now accepted .",
        "95 species are now accepted .",
    ]
    assert 100 * sari(prediction, references, "About 95 species are currently accepted .") == pytest.approx(expected)


@pytest.mark.parametrize("metric", list(Metric))
def test_every_metric_ranges_from_0_to_100(metric: Metric) -> None:
    sentence = "a sentence of a few words"
    assert value(metric, [(sentence, [sentence], "a source")]) == pytest.approx(100.0)
    assert 0 <= value(metric, [("zzz", [sentence], "a source")]) < 70


def test_bleu_of_one_answer_tells_short_ones_apart() -> None:
    from sacrebleu.metrics.bleu import BLEU

    def bleu(prediction: str, reference: str = "the red car drives home now") -> float:
        return answer_value(Metric.BLEU, prediction, [reference], "")

    assert bleu("the red car", "the red car") == bleu("red", "red") == pytest.approx(1)
    assert 0 == bleu("blue") < bleu("a red car") < bleu("the red car") < bleu("the red car drives home")
    expected = BLEU(effective_order=True).sentence_score("the red car goes", ["the red car drives home now"]).score
    assert bleu("the red car goes") == pytest.approx(expected / 100)
    assert answer_value(Metric.EXACT_MATCH, "red", ["red"], "") == 1
