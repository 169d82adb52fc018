"""The page of an evaluation: one file without scripts or external resources, with a light and a dark theme."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from udr_training.evaluation.report.embedding_map import LabelMap
from udr_training.evaluation.report.format import counted, facts, interval, points, signed, summary, with_shots
from udr_training.evaluation.report.metrics_log import History
from udr_training.evaluation.report.page_results import family_section, gain_section, shots_section, value_section
from udr_training.evaluation.report.page_training import map_section, training_section
from udr_training.evaluation.report.svg import element
from udr_training.evaluation.results import Evaluation
from udr_training.evaluation.retriever_names import ORACLE


def page(evaluation: Evaluation, histories: Sequence[History], drawn_map: LabelMap) -> str:
    """Return the page as HTML.

    Args:
        evaluation: what was found.
        histories: of the runs that were compared.
        drawn_map: of one pool, before and after training.
    """
    style = files("udr_training.evaluation.report").joinpath("page.css").read_text("utf-8")
    head = [
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        # An icon of its own, or a browser asks the server for one.
        '<link rel="icon" href="data:,">',
        element("title", "Retriever evaluation"),
        element("style", style),
    ]
    sections = [
        _header(evaluation),
        family_section(evaluation),
        shots_section(evaluation),
        gain_section(evaluation),
        value_section(evaluation),
        training_section(histories),
        map_section(drawn_map),
        _facts(evaluation),
    ]
    body = element("main", *sections)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{"".join(head)}</head>\n<body>{body}</body></html>\n'


def _header(evaluation: Evaluation) -> str:
    lede = element("p", escape(summary(evaluation)), class_="lede")
    return element(
        "header", element("h1", "Retriever evaluation"), lede, element("div", *_tiles(evaluation), class_="tiles")
    )


def _tiles(evaluation: Evaluation) -> Iterable[str]:
    shots, labels = evaluation.main_shots, evaluation.labels
    best = evaluation.best(shots)
    value = evaluation.value(best, shots)
    yield _tile(points(value.value), f"points with {labels[best]}, {interval(value)}, {with_shots(shots)} a prompt")
    if best != evaluation.baseline:
        gain = evaluation.gain(best, shots)
        said = f"points over {labels[evaluation.baseline]}, 95 % interval {interval(gain, gain=True)}"
        yield _tile(signed(gain.value), said)
    if ORACLE in labels and best != ORACLE and shots:
        room = evaluation.value(ORACLE, shots) - value
        said = f"points from {labels[best]} to the oracle, {interval(room, gain=True)}"
        yield _tile(signed(room.value), said)
    families = counted(len(evaluation.families), "family")
    yield _tile(f"{evaluation.num_rows:,}", f"test rows of {counted(len(evaluation.tasks), 'task')} in {families}")


def _tile(figure: str, said: str) -> str:
    # An interval is one thing to read: it stays on one line.
    told = re.sub(r"\[.*?\]", lambda ends: ends.group().replace(" ", "\N{NO-BREAK SPACE}"), said)
    return element("div", element("b", figure), element("span", escape(told)), class_="tile")


def _facts(evaluation: Evaluation) -> str:
    told = "".join(element("dt", escape(title)) + element("dd", escape(text)) for title, text in facts(evaluation))
    return element("section", element("h2", "What was run"), element("dl", told))
