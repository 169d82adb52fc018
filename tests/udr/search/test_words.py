"""How BM25 splits texts of many scripts, and that an index keeps its rule."""

import pytest

from udr.search import LOWER, RULE, RULES, BM25Search


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
