"""How BM25 splits texts of many scripts, and that an index keeps its rule."""

import re
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr.search import LOWER, RULE, RULES, BM25Search, folded


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cat, sat_on 7!", ["the", "cat", "sat_on", "7"]),
        ("Cafe\u0301 ＦＵＬＬ ﬁne", ["café", "full", "fine"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("İstanbul istanbul", ["istanbul", "istanbul"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("東京大学 is 大", ["東京", "京大", "大学", "is", "大"]),
        ("カタカナとkana", ["カタ", "タカ", "カナ", "ナと", "kana"]),
        ("ขอบคุณ", ["ขอ", "อบ", "บค", "คุ", "ุณ"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("🙂 …", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert RULES[RULE](text) == words


@pytest.mark.parametrize("query", ["京大", "ＣＡＦＥ\u0301", "straße"])
def test_texts_are_found_however_they_are_written(query: str) -> None:
    search = BM25Search(["東京大学に行く", "café", "STRASSE", "nothing"])
    assert len(search.search([query], 4)[0]) == 1


def test_the_rule_of_older_indexes_is_unchanged() -> None:
    assert RULES[LOWER]("Café, straße 東京 x_1") == ["café", "straße", "東京", "x_1"]


MARKS = "\u0301\u0323\u0f73\uff9e\u3099\u0345"


@given(st.text(st.sampled_from("aA \u30ab\u00df\u1112\u1161\ufdfa" + MARKS) | st.characters(), max_size=60))
def test_texts_without_long_runs_of_marks_fold_as_in_one_piece(text: str) -> None:
    text = re.sub(f"[{MARKS}]{{30,}}", "", text)
    assert folded(text) == unicodedata.normalize("NFKC", text).casefold()


def test_a_run_of_marks_folds_thirty_at_a_time() -> None:
    run = "\u0301\u0323" * 50
    # The first piece begins where the run does, after its letter.
    pieces = ["a" + run[:30], run[30:60], run[60:90], run[90:]]
    assert folded("a" + run) == "".join(unicodedata.normalize("NFKC", piece) for piece in pieces)


@pytest.mark.parametrize("mark", ["\u0301", "\u0344", "\u0f73", "\uff9e"])
def test_time_is_linear_in_a_run_of_marks(mark: str) -> None:
    started = time.process_time()
    for split in (folded, RULES[RULE], RULES[LOWER]):
        split("a" + f"{mark}\u0323" * 100_000)
    # In one piece this takes minutes.
    assert time.process_time() - started < 5


def test_this_version_of_unicode_is_as_the_rules_assume() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    kinds = dict(zip(characters, map(unicodedata.category, characters), strict=True))
    others = [character for character, kind in kinds.items() if kind[0] == "M" and not "\0" <= character < "\U00020000"]
    assert all("\U000e0000" <= character < "\U000e0200" for character in others)
    # Characters without a combining class that decompose into characters that all have one.
    hidden = [
        character
        for character in characters
        if unicodedata.decomposition(character)
        and not unicodedata.combining(character)
        and all(map(unicodedata.combining, unicodedata.normalize("NFKD", character)))
    ]
    assert hidden == list("\u0f73\u0f75\u0f81\uff9e\uff9f")
    # A search for text in lower case finds what a pattern does that ignores case.
    alike = [character for character in characters if re.match("[a-z]", character, re.IGNORECASE)]
    assert sorted(set(alike) - {chr(code) for code in range(128)}) == list("\u0130\u0131\u017f\u212a")
    assert [character for character in characters if len(character.lower()) != 1] == ["\u0130"]
