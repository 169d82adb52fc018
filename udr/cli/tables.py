"""What ``udr retrieve`` and ``udr prompt`` print of demonstrations and decisions, in lines."""

from collections.abc import Iterable, Sequence

from udr.retrieval import Decision, Ranked, RetrievedDemonstration


def demonstrations(items: Sequence[RetrievedDemonstration], *, titles: bool = False) -> str:
    """Return demonstrations as lines of text: rank, numbers, task and id, and below them what is shown.

    Args:
        items: the best first.
        titles: align the columns below a line that names them, for people; scripts get the lines alone.
    """
    heads = [(f"{item.rank:>3}", *_numbers(item), item.task, item.id) for item in items]
    named = ["rank", *_numbers_titles(items), "task", "id"]
    lines = _aligned([named, *heads]) if titles and items else ["", *map("  ".join, heads)]
    texts = (item.text.replace("\n", "\n     ") for item in items)
    shown = (f"{line}\n     {text}" for line, text in zip(lines[1:], texts, strict=True))
    return "\n".join([*lines[: titles and bool(items)], *shown])


def table(decisions: Sequence[Decision], *, titles: bool = False) -> str:
    """Return decisions as lines of text, one per candidate, the nearest first; see ``demonstrations``."""
    rows = [
        ("+" if each.kept else "-", *_numbers(each, 9), f"{each.task}/{each.id}", f"{each.stage:<14}", each.reason)
        for each in decisions
    ]
    named = ["kept", *_numbers_titles(decisions), "task/id", "stage", "reason"]
    return "\n".join(_aligned([named, *rows] if titles and rows else rows))


def _numbers(item: Ranked, width: int = 7) -> tuple[str, ...]:
    """Return an item's similarity, and the number that ranks it if that is another."""
    numbers = (item.similarity,) if item.ranking_score is None else (item.similarity, item.ranking_score)
    return tuple(f"{number:>{width}.5f}" for number in numbers)


def _numbers_titles(items: Iterable[Ranked]) -> tuple[str, ...]:
    scored = any(item.ranking_score is not None for item in items)
    return ("similarity", "ranking score") if scored else ("similarity",)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines whose columns begin at the same place; the last column is as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=False)]
    return ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]) for row in rows]
