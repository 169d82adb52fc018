"""Turns: clients take turns, each in its own order."""

from udr_service.serving import Turns


def test_clients_take_turns() -> None:
    turns: Turns[str] = Turns()
    turns.put("a", ["a1", "a2", "a3"])
    turns.put("b", ["b1"])
    assert (turns.first(), turns.take()) == ("a1", "a1")
    turns.put("c", ["c1", "c2"])
    turns.put("c", [])
    assert len(turns) == 5
    assert [turns.take() for _ in range(6)] == ["b1", "a2", "c1", "a3", "c2", None]
    assert turns.first() is None
