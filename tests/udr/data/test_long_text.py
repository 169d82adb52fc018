"""Numbers about long texts, against texts whose answer is known."""

import random
import time
from dataclasses import replace
from statistics import fmean

import pytest

from udr.data import measure_text, sentences_of

# Each sentence shares a word with the next one only.
CHAIN = [f"Word{n:03}x met word{n + 1:03}x." for n in range(40)]


def topic(name: str, count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices([f"{name}{letter}" for letter in "abcdefgh"], k=4)) + "." for _ in range(count)]


def test_sentences_end_with_marks_and_lines_in_english_and_chinese() -> None:
    assert sentences_of('He said: "Go." Then he left!\nWhere to?') == ['He said: "Go.', "Then he left!", "Where to?"]
    assert sentences_of("今天下雨。“我们走吧。”他说。") == ["今天下雨。", "“我们走吧。", "他说。"]
    assert sentences_of("Version 3.5 is out") == ["Version 3.5 is out"]


def test_chains_tell_a_texts_order() -> None:
    shuffled = random.Random(0).sample(CHAIN, len(CHAIN))
    assert measure_text(" ".join(CHAIN)).chains > 5
    assert abs(measure_text(" ".join(shuffled)).chains) < 2
    assert measure_text("One two. Three four. Five six.").chains == 0


def test_parts_tell_joined_texts() -> None:
    whole, joined = topic("river", 20, 0), topic("river", 10, 1) + topic("stone", 10, 2)
    assert measure_text(" ".join(joined)).parts > 1.5 > 0.6 > measure_text(" ".join(whole)).parts


def test_parts_are_what_is_within_less_what_is_across_by_what_all_share() -> None:
    """Three equal sentences and three others: all within is 1, all across 0, and 6 of 15 pairs are within."""
    text = "Alpha beta. " * 3 + "Gamma delta. " * 3
    assert measure_text(text).parts == pytest.approx(1 / (6 / 15))


def best_gap(similarities: list[list[float]]) -> float:
    """The same by its definition, cut by cut and pair by pair."""
    count = len(similarities)
    pairs = {(a, b): similarities[a][b] for a in range(count) for b in range(a + 1, count)}
    gaps = [0.0]
    for cut in range(3, count - 2):
        across = [value for (a, b), value in pairs.items() if a < cut <= b]
        within = [value for (a, b), value in pairs.items() if not a < cut <= b]
        gaps.append((fmean(within) - fmean(across)) / fmean(pairs.values()))
    return max(gaps)


def test_parts_are_the_best_of_all_cuts() -> None:
    # Of one word each, so that two sentences are equal or share nothing.
    words = [draw.choice(["alpha", "gamma", "delta"]) for draw in [random.Random(5)] for _ in range(12)]
    words[:5] = ["alpha"] * 5
    similarities = [[float(one == other) for other in words] for one in words]
    assert measure_text(" ".join(f"{word}." for word in words)).parts == pytest.approx(best_gap(similarities))
    assert measure_text("Alpha. Gamma. Delta. Other. Final. Sixth.").parts == 0


def test_of_a_long_text_only_the_beginning_is_measured() -> None:
    sentences, started = topic("river", 1200, 0) + topic("stone", 1200, 1), time.process_time()
    whole, beginning = measure_text(" ".join(sentences), most=1200), measure_text(" ".join(sentences[:1200]))
    assert replace(whole, sentences=1200) == beginning and whole.sentences == 2400
    # Cut by cut, each takes seconds.
    assert time.process_time() - started < 2


def test_connectives_entities_words_and_readability() -> None:
    text = "It rained today. However, we met Anna Weber in 2019. So Anna left. Because of rain, nobody saw Weber."
    measured = measure_text(text)
    assert measured.sentences == 4 and measured.connectives == 3 / 4 and measured.entities == pytest.approx(2 / 3)
    words = 19
    assert measured.type_token == pytest.approx(17 / words)
    assert measured.readability == pytest.approx(words / 4 + 100 * 2 / words)


def test_chinese_is_measured_too() -> None:
    measured = measure_text("天下雨了。因此我们没有去公园。然而孩子们很高兴。")
    assert measured.connectives == pytest.approx(2 / 3) and measured.readability == pytest.approx((5 + 10 + 9) / 3)


def test_a_text_without_two_sentences_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than two sentences"):
        measure_text("Only one.")
