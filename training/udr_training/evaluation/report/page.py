"""The page of an evaluation: one file without scripts or external resources, with a light and a dark theme."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from udr_training.evaluation.report.charts import label_looks, legend
from udr_training.evaluation.report.embedding_map import LabelMap
from udr_training.evaluation.report.format import counted, facts, interval, points, signed, summary, title, with_shots
from udr_training.evaluation.report.metrics_log import History
from udr_training.evaluation.report.page_results import bars, compared, gains, groups, means_axis, row, shots_figure
from udr_training.evaluation.report.page_training import curves, map_figure, runs_figure
from udr_training.evaluation.report.svg import breakable
from udr_training.evaluation.results import Evaluation
from udr_training.evaluation.retrievers import ORACLE
from udr_training.evaluation.verdict import verdict

_FOLDER = Path(__file__).parent


def page(evaluation: Evaluation, histories: Sequence[History], label_map: LabelMap) -> str:
    """Return the page as HTML, with the histories of the compared runs and the map of a pool before and after."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {function.__name__: function for function in (breakable, counted, interval, signed, with_shots)}
    environment.filters.update(filters)
    return environment.get_template("page.html.jinja").render(
        evaluation=evaluation,
        style=Markup((_FOLDER / "page.css").read_text("utf-8")),
        title=title(evaluation),
        summary=summary(evaluation),
        outcome=verdict(evaluation).outcome,
        tiles=_tiles(evaluation),
        facts=facts(evaluation),
        has_oracle=ORACLE in evaluation.labels,
        groups=groups(evaluation),
        bars=partial(bars, evaluation, means_axis(evaluation)),
        compared=partial(compared, evaluation),
        gains=partial(gains, evaluation),
        row=partial(row, evaluation),
        shots_figure=shots_figure(evaluation),
        histories=histories,
        runs_figure=runs_figure(histories),
        curves=curves,
        map=label_map,
        map_figure=map_figure,
        map_legend=legend(label_looks(label_map.labels), lines=False),
    )


def _tiles(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield the main numbers, each with its text."""
    shots, labels = evaluation.main_shots, evaluation.labels
    subject, rival = evaluation.subject, evaluation.rival
    value, name = evaluation.value(subject, shots), labels[subject]
    tiles = [(points(value.value), f"points with {name}, {interval(value)}, {with_shots(shots)} per prompt")]
    if rival is not None:
        gain = evaluation.gain(subject, shots, over=rival)
        text = f"points over {labels[rival]}, 95 % interval {interval(gain, gain=True)}"
        tiles.append((signed(gain.value), text))
    if ORACLE in labels and subject != ORACLE and shots:
        room = evaluation.gain(ORACLE, shots, over=subject)
        tiles.append((signed(room.value), f"points from {name} to the oracle, {interval(room, gain=True)}"))
    families, tasks = counted(len(evaluation.families), "family"), counted(len(evaluation.tasks), "task")
    tiles.append((f"{evaluation.num_rows:,}", f"test rows of {tasks} in {families}"))
    for number, text in tiles:
        # Intervals stay on one line.
        yield number, re.sub(r"\[.*?\]", lambda ends: ends.group().replace(" ", "\N{NO-BREAK SPACE}"), text)
