"""All parts on a card, one after another, in at most 25 minutes.

    python benchmarks/gpu/run.py --out FOLDER [--parts NAME,...] [--device cuda] [--quick]

Each part is a process with a time limit of its own, at which it and all that it has started are killed. A part that
ends with an error, or at its limit, is named at the end; what is measured stays in FOLDER, and the same command goes on
with the rest.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from card import card, parser

MINUTES = {"tests": 6, "search": 6, "feedback": 6, "training": 2, "serving": 5}
"""The limit of each part."""


def main(given: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--out", required=True)
    options.add_argument("--parts", default=",".join(MINUTES))
    options.add_argument("--device", default="cuda")
    options.add_argument("--quick", action="store_true")
    arguments = options.parse_args(given)
    names = arguments.parts.split(",")
    if unknown := [name for name in names if name not in MINUTES]:
        raise SystemExit(f"no part {unknown[0]!r}; the parts are {', '.join(MINUTES)}")
    card(arguments.device, "benchmarks/gpu")
    problems = {
        name: problem for name in names if (problem := _run(name, arguments.out, arguments.device, arguments.quick))
    }
    if problems:
        raise SystemExit("; ".join(f"{name}: {problem}" for name, problem in problems.items()))


def _run(name: str, out: str, device: str, quick: bool) -> str:
    """Run a part; return what went wrong, or nothing."""
    script = Path(__file__).with_name(f"card_{name}.py")
    command = [sys.executable, str(script), "--out", out, "--device", device, *(["--quick"] if quick else [])]
    # In a session of its own: pytest and udr serve, which parts start, would else go on beside the next part.
    with subprocess.Popen(command, start_new_session=True) as part:
        try:
            status = part.wait(60 * MINUTES[name])
        except subprocess.TimeoutExpired:
            return f"not done in {MINUTES[name]} minutes"
        finally:
            # Of a part that has ended in order, nothing is left.
            with suppress(ProcessLookupError):
                os.killpg(part.pid, signal.SIGKILL)
    return f"ended with status {status}" if status else ""


if __name__ == "__main__":
    # Signals to this process and its group do not reach the part, which is then ended as at its limit.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    main()
