"""Empty and unread fields, ids that are hard to read, and labels that few rows or none have, or that look alike."""

from collections import Counter
from collections.abc import Iterable, Iterator

from udr.data import Kind as TaskKind
from udr.errors import listed
from udr.search import folded
from udr_index.plural import counted
from udr_index.quality.findings import Finding, Kind
from udr_index.quality.splits import Split


def empty_fields(split: Split) -> Iterator[Finding]:
    """Yield the fields of the input template that are blank in some rows, and the rows in which all are."""
    blank: dict[str, list[str]] = {}
    empty_rows: list[tuple[str, ...]] = []
    for row in split.rows:
        empty = split.blank_fields(row)
        if len(empty) == len(split.task.fields):
            empty_rows.append((row.id,))
        else:
            for name in empty:
                blank.setdefault(name, []).append(row.id)
    if empty_rows:
        message = f"{split.part(len(empty_rows))} no text in any input field; fill them in or remove them"
        yield split.finding(Kind.EMPTY_INPUT, len(empty_rows), message, empty_rows)
    for name in split.task.fields:
        if ids := blank.get(name):
            message = f"{split.part(len(ids))} no text in the field {name!r}; fill it in, unless that is intended"
            yield split.finding(Kind.EMPTY_FIELD, len(ids), message, [(id,) for id in ids])


def unread_fields(split: Split) -> Iterator[Finding]:
    """Yield the input fields that no template names: nothing reads them, and a query must not have them."""
    unread = [row.input.keys() - set(split.task.fields) for row in split.rows]
    if names := sorted(set[str]().union(*unread)):
        count = sum(map(bool, unread))
        message = (
            f"{split.part(count)} input fields that the template does not name, so nothing reads them, and a query "
            f"with them is refused; name them there, or move them to metadata: {listed(map(repr, names), len(names))}"
        )
        yield split.finding(Kind.UNREAD_FIELD, count, message)


def odd_ids(split: Split) -> Iterator[Finding]:
    """Yield the ids with line breaks or other control characters, or with spaces at an end."""
    odd = [(row.id,) for row in split.rows if not row.id.isprintable() or row.id != row.id.strip()]
    if odd:
        message = f"{split.part(len(odd))} an id with line breaks, control characters or outer spaces; choose plain ids"
        yield split.finding(Kind.ODD_ID, len(odd), message, odd)


def similar_labels(split: Split) -> Iterator[Finding]:
    """Yield the labels that differ only in case, spaces or Unicode form, which an answer seldom tells apart."""
    for group in differing_in_case(split.task.labels):
        shown = ", ".join(map(repr, group))
        message = f"the labels {shown} differ only in case, spaces or Unicode form; give their rows the same one"
        yield split.finding(Kind.SIMILAR_LABELS, len(group), message, labels=group)


def differing_in_case(labels: Iterable[str]) -> list[list[str]]:
    """Return the groups of labels that differ only in case, spaces or Unicode form, each in the order given."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault("".join(folded(label).split()), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def skewed_labels(split: Split, skew: float) -> Iterator[Finding]:
    """Yield the labels that no row has, and those that too few have.

    Args:
        split: rows of any task; only a classification task has labels.
        skew: the least fraction of the average label's rows that a label should have: with 0.1 and four labels,
            2.5 % of all rows.
    """
    if split.task.kind is not TaskKind.CLASSIFICATION:
        return
    rows = Counter(row.target for row in split.rows)
    labels = split.task.labels
    missing = [label for label in labels if not rows[label]]
    even = len(split.rows) / len(labels)
    rare = sorted((rows[label], label) for label in labels if 0 < rows[label] < skew * even)
    if missing:
        message = (
            f"{counted(len(missing), 'label has no row', 'labels have no row')}, so no demonstration shows them; "
            f"add rows, or remove from task.toml: {', '.join(map(repr, missing))}"
        )
        yield split.finding(Kind.MISSING_LABEL, len(missing), message, labels=missing)
    if rare:
        shown = ", ".join(f"{label!r} has {counted(number, 'row')}" for number, label in rare)
        message = (
            f"{counted(len(rare), 'label is', 'labels are')} rare: {shown}, where labels have {even:,.0f} on average; "
            "add rows if the task needs them: demonstrations can show only what there is"
        )
        yield split.finding(Kind.LABEL_SKEW, len(rare), message, labels=[label for _, label in rare])
