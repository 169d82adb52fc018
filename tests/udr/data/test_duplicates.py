"""What counts as a copy, against its definition character by character."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from udr.data import normalised


@given(
    st.text(
        st.sampled_from(
            "aA \u0301\u0323.,_1\u00df\ufdfa\u0e02\u0e33\uff9e\u00a0\U0001f602<=\u0338\u00ad\ue000\U00050000\n"
        )
        | st.characters(),
        max_size=30,
    )
)
def test_spaces_controls_and_punctuation_do_not_count(text: str) -> None:
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(character for character in folded if unicodedata.category(character)[0] not in "ZCP")
    assert normalised(text) == (kept or text.strip())
