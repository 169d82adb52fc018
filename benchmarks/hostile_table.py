"""The table of ``hostile.py``: its attacks, before and after a change."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hostile_client import Attack

Result = Mapping[str, Any]

_HEAD = (
    "| attack | what it does | heartbeat, ms | the machine | honest client | slowest, s | memory, MiB | log, lines |"
)


def table(attacks: Mapping[str, Attack], suffix: str, before: Path, after: Path) -> str:
    """Return Markdown with a line per attack, ``before → after`` in each cell."""
    lines = [_HEAD, "|" + "---|" * 8]
    for name, attack in attacks.items():
        sides = [_read(folder / f"{name}{suffix}") for folder in (before, after)]
        if any(sides):
            cells = [" → ".join(cell(side) if side else "-" for side in sides) for cell in _CELLS]
            lines.append(f"| `{name}` | {attack.about} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _read(path: Path) -> Result | None:
    result: Result | None = json.loads(path.read_text("utf-8")) if path.exists() else None
    return result


def _worst(phases: Mapping[str, float]) -> float:
    return max(phases["attack"], phases["after"])


def _statuses(result: Result) -> str:
    statuses: Mapping[str, int] = result["honest"]
    if not statuses:
        return "no answer"
    return ", ".join(f"{count} × {status}" for status, count in statuses.items() if status != "200") or "all 200"


_CELLS: tuple[Callable[[Result], str], ...] = (
    lambda result: f"{_worst(result['heartbeat_ms']):,}",
    lambda result: f"{_worst(result['machine_ms']):,}",
    _statuses,
    lambda result: f"{_worst(result['honest_slowest_seconds']):.1f}",
    lambda result: f"{result['memory_mib']:+,.0f}",
    lambda result: f"{result['log_lines']:,}" if "alive" not in result["missed"] else "ended",
)
