"""How fast the service is, and whether it stays right and whole under load.

    python benchmarks/service.py --out FOLDER [--parts NAME,...] [--quick]

Server and load generator run on this machine, each in a process of its own; what is compared takes turns. The encoder
is the embedded MiniLM, with the engine that ``UDR_ENGINE`` names, or that the service takes by itself; tasks, rows and
requests are made up (``service_made_up.py``), no two requests alike. The parts:

- ``one``: one client, one connection, beside encoding and searching in this process;
- ``many``: 64 clients, beside the rate at which the engine encodes the same texts in batches of 64 as they come, and
  beside the handler of ten lines in ``service_plain.py``;
- ``overload``: ten times the sustainable load for a minute: statuses, times, and the latency before and after;
- ``memory``: resident memory before and after 50,000 requests;
- ``reload``: 10,000 requests while the published version changes 20 times;
- ``equal``: each answer among those of 64 clients, beside the answer to the same request alone;
- ``cold``: from the start of the process to the first answer, by stage.

``--quick`` makes all of them small, to try them. Prints a JSON line a part, and keeps it in FOLDER; what is there is
not measured again. Times on shared cores are only good for their ratios, which are medians of turns.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from service_answers import equal, reload
from service_cold import cold
from service_endurance import memory, overload
from service_made_up import MadeUp, made_up
from service_speed import many, one

ROWS, QUICK_ROWS = 10_000, 1_000
PARTS: dict[str, Callable[[MadeUp, bool], dict[str, object]]] = {
    "one": one,
    "many": many,
    "overload": overload,
    "memory": memory,
    "reload": reload,
    "equal": equal,
    "cold": cold,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.out / ("quick" if arguments.quick else "whole")
    folder.mkdir(parents=True, exist_ok=True)
    made = made_up(folder, QUICK_ROWS if arguments.quick else ROWS)
    for name in arguments.parts.split(","):
        kept = folder / f"{name}.json"
        if not kept.exists():
            figures = {"part": name, "rows": made.rows, **PARTS[name](made, arguments.quick)}
            kept.write_text(json.dumps(figures) + "\n", "utf-8")
        print(kept.read_text("utf-8"), end="", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
