"""What is cut keeps as much as fits, and says that it was cut."""

from hypothesis import given
from hypothesis import strategies as st

from udr.prompts import MARK, shortened


@given(value=st.text(min_size=1, max_size=80), room=st.integers(0, 80))
def test_the_longest_beginning_that_fits_is_kept(value: str, room: int) -> None:
    asked = list[str]()

    def fits(text: str) -> bool:
        asked.append(text)
        return len(text) <= room + len(MARK)

    cut = shortened(value, fits)
    longest = max((n for n in range(len(value)) if len(value[:n].rstrip()) <= room), default=0)
    assert cut == (value[:longest].rstrip() + MARK, len(value[:longest].rstrip()))
    assert len(asked) < 10


def test_what_leaves_no_room_for_the_mark_is_not_cut() -> None:
    assert shortened("a long text", lambda text: len(text) < len(MARK)) is None


def test_the_finding_fits_even_where_longer_texts_take_fewer_tokens() -> None:
    allowed = {MARK, "ab" + MARK, "abcd" + MARK}
    cut = shortened("abcdef", allowed.__contains__)
    assert cut is not None and cut[0] in allowed
