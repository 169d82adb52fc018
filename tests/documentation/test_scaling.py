"""The capacity plan on the page is the one that the benchmark makes from the measured figures."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_plan_of_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    plan: str = importlib.import_module("scale_plan").plan()
    assert plan in (ROOT / "docs" / "scaling.md").read_text("utf-8")


def test_a_figure_that_has_changed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("scale_plan")
    for page in (ROOT / "docs" / "results").glob("*.md"):
        (tmp_path / page.name).write_text(page.read_text("utf-8").replace("38.8 bytes", "40 bytes"), "utf-8")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    with pytest.raises(ValueError, match=r"docs/results/feedback\.md does not say '38\.8 bytes each' any more"):
        module.check_quotes()
