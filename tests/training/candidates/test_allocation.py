"""The allocation of new queries: by what labels leave unexplained, within a total and what the pools have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udr_training.candidates import allocate

MANY = {"a": 100, "b": 100, "c": 100}


@pytest.mark.parametrize(
    ("explained", "expected"),
    [
        ({"a": None, "b": None, "c": None}, {"a": 10, "b": 10, "c": 10}),
        # Weights 1, 0.5 and 0.5: labels that explain three quarters leave half of what chance leaves.
        ({"a": None, "b": 0.75, "c": 0.75}, {"a": 15, "b": 8, "c": 7}),
        # Weights 1, 0.1 and 0.1; worse than chance counts as chance.
        ({"a": 0.3, "b": 1.0, "c": 0.97}, {"a": 25, "b": 3, "c": 2}),
    ],
)
def test_shares_follow_what_labels_leave_unexplained(
    explained: dict[str, float | None], expected: dict[str, int]
) -> None:
    assert allocate(30, explained, MANY) == expected


def test_what_a_pool_lacks_goes_to_the_others() -> None:
    assert allocate(30, dict.fromkeys("abc"), {**MANY, "a": 4}) == {"a": 4, "b": 13, "c": 13}
    assert allocate(30, dict.fromkeys("ab"), {"a": 4, "b": 5}) == {"a": 4, "b": 5}


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.none() | st.floats(0, 1), st.integers(0, 20)), min_size=1, max_size=5),
)
def test_the_total_is_kept_and_no_bound_exceeded(total: int, tasks: list[tuple[float | None, int]]) -> None:
    explained = {str(number): share for number, (share, _) in enumerate(tasks)}
    available = {str(number): count for number, (_, count) in enumerate(tasks)}
    counts = allocate(total, explained, available)
    assert sum(counts.values()) == min(total, sum(available.values()))
    assert all(0 <= counts[name] <= available[name] for name in available)
