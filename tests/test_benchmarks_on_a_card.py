"""The parts of ``benchmarks/gpu`` refuse without a card, and run on tiny sizes on the CPU."""

import json
import os
import select
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.tiny_models import save_encoder, save_lm
from udr.search import Mask, ProposerAmong, Vectors, proposer_among

PARTS = ("tests", "search", "feedback", "training", "serving")


@pytest.fixture
def run(load_benchmark: Callable[[str], ModuleType], tmp_path: Path) -> Callable[..., Any]:
    """Runs a part on the CPU with tiny sizes, and returns its result."""

    def on_cpu(name: str, *options: str) -> Any:
        load_benchmark(f"card_{name}").main(["--out", str(tmp_path / "out"), "--device", "cpu", "--quick", *options])
        return json.loads((tmp_path / "out" / "quick" / f"{name}.json").read_text("utf-8"))

    return on_cpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
@pytest.mark.parametrize("name", [*(f"card_{part}" for part in PARTS), "run"])
def test_without_a_card_nothing_is_measured(
    load_benchmark: Callable[[str], ModuleType], tmp_path: Path, name: str
) -> None:
    with pytest.raises(SystemExit, match=r"needs a CUDA card for --device cuda, but torch .* nothing was measured"):
        load_benchmark(name).main(["--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_all_parts_end_within_25_minutes(load_benchmark: Callable[[str], ModuleType]) -> None:
    minutes = load_benchmark("run").MINUTES
    assert tuple(minutes) == PARTS and sum(minutes.values()) <= 25
    with pytest.raises(SystemExit, match="no part 'bench'; the parts are tests, search, feedback, training, serving"):
        load_benchmark("run").main(["--out", "out", "--parts", "bench"])


def test_what_a_part_has_started_ends_with_it(
    load_benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, pipe = load_benchmark("run"), tmp_path / "pipe"
    monkeypatch.setattr(module, "__file__", str(tmp_path / "run.py"))
    monkeypatch.setattr(module, "MINUTES", {"tests": 3 / 60, "search": 1})
    started = f"import subprocess, sys, time; pipe = open({str(pipe)!r}, 'w', 1); print(sys.argv[0][-9:], file=pipe)\n"
    started += "subprocess.Popen(['sleep', '20'], stdout=pipe)\n"
    (tmp_path / "card_tests.py").write_text(started + "time.sleep(20)", "utf-8")
    (tmp_path / "card_search.py").write_text(started + "sys.exit(3)", "utf-8")
    os.mkfifo(pipe)
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as ends:
        with pytest.raises(SystemExit, match=r"tests: not done in 0.05 minutes; search: ended with status 3"):
            module.main(["--out", str(tmp_path / "out"), "--parts", "tests,search", "--device", "cpu"])
        assert ends.read(100) == b"_tests.py\nsearch.py\n"
        # The pipe ends once no process holds it.
        assert select.select([ends], [], [], 5)[0] and ends.read(100) == b""


def _killed() -> object:
    raise KeyboardInterrupt


def test_what_is_measured_is_kept_if_another_figure_fails(
    load_benchmark: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    def run(*works: Callable[[], object]) -> Any:
        figures = zip(("first", "second", "third"), works, strict=True)
        load_benchmark("card").part("made_up", None, lambda _: figures, ["--out", str(tmp_path), "--device", "cpu"])

    result, begun = tmp_path / "whole" / "made_up.json", tmp_path / "whole" / "made_up.begun.json"
    with pytest.raises(
        SystemExit, match=r"made_up: second: list index out of range; the other figures are in \S+begun"
    ):
        run(lambda: 1, lambda: [][1], lambda: 3)
    figures = json.loads(begun.read_bytes())
    assert (figures["first"], figures["third"]) == (1, 3) and figures["second"] == {"failed": "list index out of range"}
    with pytest.raises(KeyboardInterrupt):
        run(lambda: 4, _killed, lambda: 6)
    assert json.loads(begun.read_bytes())["first"] == 4 and not result.exists()
    run(lambda: 7, lambda: 8, lambda: 9)
    assert json.loads(result.read_bytes())["third"] == 9 and not begun.exists()


def test_search_compares_ids_and_rates(run: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    result = run("search")
    for kind in ("flat", "flat, float16", "lists"):
        of_all = [entry for name, entry in result[kind].items() if name.startswith("of ")]
        assert len(of_all) == 4 and all(entry["equal_ids"] == 1 for entry in of_all)
        assert all(entry["card_a_second_64_at_once"] > 0 for entry in of_all)
    # A part that is done is not run again.
    capsys.readouterr()
    assert run("search") == result and json.loads(capsys.readouterr().out) == result


def test_filtered_search_on_the_cpu_is_udr_s(
    run: Callable[..., Any], load_benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[float] = []

    def recorded(index: Any) -> tuple[ProposerAmong, int]:
        found = proposer_among(index)
        assert found is not None
        among, scanned = found

        def propose(queries: Vectors, count: int, rows: Mask) -> Any:
            searched.append(rows.mean())
            return among(queries, count, rows)

        return propose, scanned

    monkeypatch.setattr(load_benchmark("card_search"), "proposer_among", recorded)
    assert run("search")["lists"]["of 0.5"]["equal_ids"] == 1
    # Fewer rows are compared one by one.
    assert searched and all(0.4 < share < 0.6 for share in searched)


@pytest.mark.slow
def test_feedback_is_beside_padded_batches_and_the_matrix_rate(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("feedback", "--lm", str(save_lm(tmp_path / "lm")))
    figures = result["mask"]["product_reviews"]
    assert result["chosen"] == "mask" and "FlexAttention" not in result
    assert figures["largest_score_difference"] < 1e-3 and figures["share_of_matrix_rate"] >= 0 < figures["ratio"]


@pytest.mark.slow
def test_training_times_each_loss_in_both_types(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("training", "--model", str(save_encoder(tmp_path / "encoder")))
    for name in ("ours", "cached", "mnrl"):
        for dtype in ("float32", "bfloat16"):
            assert result[f"{name}, {dtype}"]["milliseconds"] > 0


@pytest.mark.slow
def test_serving_gives_the_answers_of_a_retriever(run: Callable[..., Any]) -> None:
    result = run("serving")
    assert result["overlap"] == 1 and result["1 clients"]["a_second"] > 0
    assert result["cpus"] == os.cpu_count() and "faiss_gpus" in result


def test_there_is_a_result_only_if_all_marked_tests_passed(
    load_benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    part, given = load_benchmark("card_tests"), ["--out", str(tmp_path / "out"), "--device", "cpu"]
    monkeypatch.setattr(part, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    folder, result = tmp_path / "tests", tmp_path / "out" / "whole" / "tests.json"
    folder.mkdir()
    # Only a file with a marked test is imported.
    (folder / "test_other.py").write_text("import what_the_machine_does_not_have", "utf-8")
    marked = f"import pytest\npytestmark = {part.MARK}\ndef test_good(): pass\n"
    more = "def test_bad(): assert False\ndef test_left(): pytest.skip()\n"
    (folder / "test_card.py").write_text(marked + more, "utf-8")
    with pytest.raises(SystemExit, match=r"failed: \S+::test_bad; were skipped: \S+::test_left \(pytest's status 1\)"):
        part.main(given)
    assert not result.exists()
    (folder / "test_card.py").write_text(marked, "utf-8")
    part.main(given)
    assert json.loads(result.read_bytes())["passed"] == 1
