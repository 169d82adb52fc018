"""How fast a live pool takes writes, what they cost searches, and what a filter costs.

    python benchmarks/live.py --out FOLDER [--parts NAME,...] [--quick]

Service and clients run on this machine, each in its own process. The encoder of the services is the embedded MiniLM;
rows are generated (``live_made_up.py``), and so are the vectors of large pools. The parts:

- ``writes``: puts acknowledged a second, by one client and by 64, each on the disk (fsync) and, for comparison, only in
  the system's memory; how often the disk syncs alone; and whether each put is found by the next request;
- ``overlay``: retrieval at 64 clients from 100,000 rows with 1,000 changes on top (450 rows new, 450 replaced, 100
  deleted), relative to the same rows without, in turns;
- ``flat``: single queries to 100,000 vectors of 384 numbers with filters that 50, 5, 0.5 and 0.05 % of the rows pass,
  relative to unfiltered ones, in turns: time, and recall beside exact search among the rows that pass;
- ``flat_qdrant``: the same queries relative to Qdrant's local mode on the same vectors and filters, in turns;
- ``ivf``, ``ivf_qdrant``: the same with 1,000,000 vectors in an IVF index, tuned to a recall of 0.95 without filters.

``flat_index`` and ``ivf_index`` build the indexes of both, so that no part takes longer than it must; a build that was
interrupted goes on. ``qdrant-client`` is not among udr's extras: install it, or name a folder that has it in
PYTHONPATH; without it, the parts with Qdrant are left out with a line. ``--quick`` makes all parts small, for a trial.
Prints a JSON line per part and keeps it in FOLDER; existing results are not measured again. On shared cores only the
ratios are reliable; they are medians of turns.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from live_filtered import flat, flat_index, flat_qdrant, ivf, ivf_index, ivf_qdrant
from live_services import overlay, writes
from measuring import measured_once, parts_parser, results_folder

PARTS: dict[str, Callable[[Path, bool], dict[str, object]]] = {
    part.__name__: part for part in (writes, overlay, flat_index, flat, flat_qdrant, ivf_index, ivf, ivf_qdrant)
}


def main() -> None:
    arguments = parts_parser(__doc__, PARTS).parse_args()
    folder = results_folder(arguments)
    for name in arguments.parts.split(","):
        if name.endswith("_qdrant") and find_spec("qdrant_client") is None:
            print(f"{name} is left out: pip install --target RIVAL qdrant-client; set PYTHONPATH=RIVAL", flush=True)
            continue
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        measured_once(
            folder / f"{name}.json",
            lambda name=name, own=own: {"part": name, **PARTS[name](own, arguments.quick)},
        )


if __name__ == "__main__":
    main()
