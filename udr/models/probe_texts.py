"""Probe texts: fixed texts on which two ways to encode must agree.

Short and long, in many languages and scripts, with the spaces, capitals and symbols that tokenizers treat specially.
"""

import numpy as np
from numpy.typing import NDArray

_SHORT = (
    "?",
    "Where?",
    "  two spaces before, a tab\tand two line breaks after\n\n",
    "Give the type of answer the question asks for.\n\nQuestion: Who wrote the first dictionary?",
    "THE SHOP ANSWERED AT ONCE; I AM GLAD (and I will come again)!",
    "Select the rows of 2024-01-31 whose price is below 1,299.95 $ and count them.",
    "SELECT name, COUNT(*) FROM orders WHERE total >= 10.5 GROUP BY name;",
    "def add(a: int, b: int = 0) -> int:\n    return a + b  # 1 + 2 == 3",
    '{"intent": "play_music", "slots": [["artist", "Nina Simone"]]}',
    "https://example.org/a/b?c=d&e=%20f#g and someone@example.org",
    "antidisestablishmentarianism, Donaudampfschifffahrtsgesellschaft, x" + "y" * 60,
    "Où est la bibliothèque? J’ai déjà cherché partout…",
    "Die Bestellung kam zwei Tage später als angekündigt, aber unbeschädigt.",
    "¿Cuántos años tiene el puente más viejo de la ciudad?",
    "Dodávka přišla pozdě; příště raději jinde.",
    "Sipariş üç gün gecikti, İstanbul'dan hiç haber gelmedi.",
    "Kuljetus myöhästyi, mutta lähetys oli ehjä.",
    "Giao hàng chậm nhưng sản phẩm rất tốt.",
    "Почему небо голубое, а на закате красное?",
    "Πόσο μακριά είναι το νησί από το λιμάνι;",
    "מתי יוצאת הרכבת האחרונה?",
    "كم عمر هذا الجسر، ومن بناه؟",
    "यह किताब किसने लिखी है?",
    "কে এই সেতু নির্মাণ করেছেন?",
    "รถไฟขบวนสุดท้ายออกกี่โมง",
    "最后一班火车什么时候开?",
    "最終電車は何時に出ますか。テスト",
    "마지막 기차는 언제 출발합니까?",
    "რა ღირს ბილეთი?",
    "Naïve café, ﬁne ﬂour, x² + y₂ ≠ ½, e\u0301 and é, Ａ and A",
    "great 👍🏽 service 👩‍👩‍👧 5/5 ⭐️⭐️",
)
_LONG = tuple(" ".join(_SHORT[start : start + count]) for start, count in ((3, 2), (11, 4), (0, 24)))

PROBES: tuple[str, ...] = (*_SHORT, *_LONG)


def agreement(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    """Return the agreement of the worst vector, [count, dimension], with its expectation; 1 if all are equal.

    For unit vectors it is the cosine; a difference in length counts like one in direction. NaN if not all are finite.
    """
    apart = ((actual - expected) ** 2).sum(axis=1) / (expected**2).sum(axis=1)
    return float(1 - apart.max() / 2)
