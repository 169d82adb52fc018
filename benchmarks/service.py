"""How fast the service is, and whether its answers stay correct and its memory constant under load.

    python benchmarks/service.py --out FOLDER [--parts NAME,...] [--engine ENGINE] [--quick]

Server and load generator run on this machine, each in its own process, and whatever is compared takes turns. The
encoder is the embedded MiniLM, with ``--engine`` or the service's default; tasks, rows and requests are generated
(``service_made_up.py``), and all requests differ. The parts:

- ``one``: one client on one connection, relative to encoding and searching in this process;
- ``many``: 64 clients, relative to the engine's rate on the same texts in batches of 64, and to the ten-line handler in
  ``service_plain.py``;
- ``overload``: ten times the sustainable load for a minute: statuses, times, and the latency before and after;
- ``memory``: resident memory before and after 50,000 requests;
- ``reload``: 10,000 requests while the published version changes 20 times;
- ``equal``: each answer to 64 concurrent clients, compared with the answer to the same request alone;
- ``float32``: the answers to 2,000 requests, compared with those of torch in float32;
- ``cold``: from the start of the process to the first answer, by stage;
- ``fields``: requests of two fields that a label head reads apart, relative to the same ones without the head; and how
  many texts the service encodes for one, counted by its metrics;
- ``workers``: two workers relative to one, in rate and in memory (PSS, where what processes share counts once);
- ``workers_overload``: ten times the sustainable load for four workers, while the version changes 20 times;
- ``workers_killed``: one of two workers is killed every five seconds for a minute, while ``udr.Client`` asks.

``--quick`` makes all parts small, for a trial. Prints a JSON line per part and keeps it in FOLDER; existing results are
not measured again. On shared cores only the ratios are reliable; they are medians of turns.
"""

import os
from collections.abc import Callable

from measuring import measured_once, parts_parser, results_folder
from service_answers import equal, float32, reload
from service_cold import cold
from service_endurance import memory, overload
from service_fields import fields
from service_made_up import MadeUp, made_up
from service_speed import many, one
from service_workers import workers, workers_killed, workers_overload

from udr.models import INT8, Engine

ROWS, QUICK_ROWS = 10_000, 1_000
FUNCTIONS = (
    one,
    many,
    overload,
    memory,
    reload,
    equal,
    float32,
    cold,
    fields,
    workers,
    workers_overload,
    workers_killed,
)
PARTS: dict[str, Callable[[MadeUp, bool], dict[str, object]]] = {part.__name__: part for part in FUNCTIONS}


def main() -> None:
    options = parts_parser(__doc__, PARTS)
    options.add_argument("--engine", choices=list(Engine))
    arguments = options.parse_args()
    folder = results_folder(arguments, arguments.engine or "")
    if arguments.engine:
        # The services inherit it.
        os.environ["UDR_ENGINE"] = arguments.engine
    index = made_up(folder, QUICK_ROWS if arguments.quick else ROWS, int8=arguments.engine == INT8)
    for name in arguments.parts.split(","):
        measured_once(
            folder / f"{name}.json",
            lambda name=name: {"part": name, "rows": index.rows, **PARTS[name](index, arguments.quick)},
        )


if __name__ == "__main__":
    main()
