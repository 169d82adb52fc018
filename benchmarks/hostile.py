"""Whether a service under attack stays alive, answers honest clients, and keeps its memory and its log small.

    python benchmarks/hostile.py --out FOLDER [--attacks NAME,...] [--seconds 20] [--checkout PATH] [--keyless]
    python benchmarks/hostile.py --table BEFORE AFTER [--keyless]

Each attack (in ``hostile_attacks.py``) meets a fresh ``udr serve`` over a generated index. It starts after 5 quiet
seconds, and what is seen counts until 3 seconds after its end. The attacker has the lowest priority, and prepares all
bytes before. Attacker, honest client and administrator have a key each; ``--keyless`` serves without.

- ``heartbeat_ms``: the longest latency of ``/livez``, asked every 20 ms on an open connection and on new ones; beside
  it, as ``machine_ms``, that of a server that does nothing, at the same time;
- ``honest``: the statuses of a client that asks every 50 ms, and gives up after 10 seconds; and its longest latency;
- ``memory_mib``: the peak of resident memory above what it was before the attack;
- ``log_lines`` and ``log_bytes`` that the server wrote to stderr, and the most ``descriptors`` that it had open;
- ``attacker``: how often the attacker received each status;
- ``missed``: the limits that did not hold, of those in ``hostile_measure.py``.

``--attacks idle-rate`` compares the rate of 64 clients with and without 1,000 idle connections, in five pairs.

``--checkout`` runs the server of another checkout. ``--model`` names the encoder, by default the packaged MiniLM.
``--quick`` makes the index small, and keeps a server for the next attack as long as it misses nothing. Prints a JSON
line per attack and keeps it in FOLDER, beside the index; what exists is neither built nor measured again. ``--table``
writes Markdown from two folders.
"""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hostile_attacks import ATTACKS
from hostile_idle import idle_rate
from hostile_index import QUICK, WHOLE, Attacked, Keys, build, environment, write_keys
from hostile_measure import Seconds, measure
from hostile_table import table
from measuring import measured_once, parser
from service_running import Server

IDLE_RATE = "idle-rate"


@dataclass(slots=True)
class _Servers:
    """The server of the next attack: a fresh one, unless an attack left the last as it was."""

    attacked: Attacked
    folder: Path
    keep: bool
    stack: ExitStack
    last: tuple[int | None, Server, Path] | None = None

    def next(self, name: str, descriptors: int | None) -> tuple[Server, Path]:
        if self.last is None or self.last[0] != descriptors:
            self.stack.close()
            log = self.folder / f"{name}.log"
            self.last = (descriptors, self.stack.enter_context(self.attacked.serving(log, descriptors)), log)
        return self.last[1:]

    def done(self, missed: object) -> None:
        if missed or not self.keep:
            self.last = None


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--out", type=Path)
    options.add_argument("--attacks", default=",".join(ATTACKS))
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--checkout", type=Path)
    options.add_argument("--model")
    options.add_argument("--keyless", action="store_true")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--table", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    arguments = options.parse_args()
    suffix = "-keyless.json" if arguments.keyless else ".json"
    if arguments.table:
        print(table(ATTACKS, suffix, *arguments.table))
    elif arguments.out is None:
        options.error("give --out FOLDER, or --table BEFORE AFTER")
    else:
        _run(arguments, suffix)


def _run(arguments: argparse.Namespace, suffix: str) -> None:
    folder: Path = arguments.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    variables = environment(arguments.checkout)
    index = build(folder, QUICK if arguments.quick else WHOLE, arguments.model, variables)
    keys = Keys() if arguments.keyless else write_keys(folder / "keys.toml")
    attacked = Attacked(index, None if arguments.keyless else folder / "keys.toml", variables)
    seconds = Seconds(0.6, arguments.seconds, 0.8) if arguments.quick else Seconds(5.0, arguments.seconds, 3.0)
    with ExitStack() as stack:
        servers = _Servers(attacked, folder, arguments.quick, stack)
        for name in arguments.attacks.split(","):

            def measured(name: str = name) -> dict[str, object]:
                if name == IDLE_RATE:
                    return {"attack": name, **idle_rate(index, variables, folder, arguments.seconds)}
                server, log = servers.next(name, ATTACKS[name].descriptors)
                found = {"attack": name, **measure(name, server, log, keys, seconds)}
                servers.done(found["missed"])
                return found

            settings = {"quick": arguments.quick, "seconds": arguments.seconds, "model": arguments.model}
            measured_once(folder / f"{name}{suffix}", measured, **settings)


if __name__ == "__main__":
    main()
