"""The service under attack: every attack of ``benchmarks/hostile.py`` for a moment, over a small index."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import save_encoder

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "hostile.py"
HEARTBEAT_MS, MEMORY_MIB, LOG_LINES = 100, 64, 100

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
Results = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What was seen during each attack."""
    root = tmp_path_factory.mktemp("hostile")
    options = ["--quick", "--seconds", "1.5", "--out", str(root / "out"), "--model", str(save_encoder(root / "model"))]
    paths = os.pathsep.join(path for path in sys.path if path)
    fixed = {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "UDR_ENGINE": "torch"}
    command = [sys.executable, str(BENCHMARK), *options]
    finished = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **fixed}, check=False)
    assert finished.returncode == 0, finished.stderr
    found = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("{")]
    assert len(found) > 30
    return {result["attack"]: result for result in found}


def test_no_attack_holds_the_event_loop(results: Results) -> None:
    late = {}
    for attack, seen in results.items():
        # A busy machine delays a server that does nothing, too, and the limit by as much.
        worst, delay = (max(seen[name]["attack"], seen[name]["after"]) for name in ("heartbeat_ms", "machine_ms"))
        if worst > HEARTBEAT_MS + delay:
            late[attack] = f"{worst} ms; a server that does nothing: {delay} ms"
    assert late == {}


def test_honest_clients_are_answered_within_their_deadline(results: Results) -> None:
    statuses = {attack: seen["honest"] for attack, seen in results.items()}
    assert {attack: found for attack, found in statuses.items() if found.keys() != {"200"}} == {}
    slowest = {attack: max(seen["honest_slowest_seconds"].values()) for attack, seen in results.items()}
    assert {attack: seconds for attack, seconds in slowest.items() if seconds > 10} == {}


def test_memory_and_log_stay_small(results: Results) -> None:
    grown = {attack: seen["memory_mib"] for attack, seen in results.items()}
    assert {attack: size for attack, size in grown.items() if size > MEMORY_MIB} == {}
    lines = {attack: seen["log_lines"] for attack, seen in results.items()}
    assert {attack: count for attack, count in lines.items() if count > LOG_LINES} == {}


def test_the_service_survives(results: Results) -> None:
    assert [attack for attack, seen in results.items() if "alive" in seen["missed"]] == []
