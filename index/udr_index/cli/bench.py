"""The command ``udr index bench``."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from udr.cli import AllowHub, AsJson, Device, Fp16, IndexDir, print_json, print_text, refuse_unused
from udr.errors import VerificationError

_RECALL, _K = 0.95, 10


def bench(
    index: IndexDir,
    recall: Annotated[
        float | None,
        typer.Option(help="The share of the nearest demonstrations to find.", show_default=str(_RECALL)),
    ] = None,
    k: Annotated[int | None, typer.Option(help="Demonstrations per query.", show_default=str(_K))] = None,
    queries: Annotated[int, typer.Option(help="Rows of each task to use as queries.")] = 200,
    device: Device = None,
    fp16: Fp16 = False,
    engines: Annotated[
        bool, typer.Option("--engines", help="Compare the engines that can encode queries here; store nothing.")
    ] = False,
    allow_hub: AllowHub = False,
    as_json: AsJson = False,
) -> None:
    """Measure every partition, and store the fastest search settings that reach a recall.

    If no settings reach it, the best ones are stored, and the exit status is 3. With --engines, measure instead how
    fast each engine encodes queries on this processor, and how far it agrees with float32.
    """
    if engines:
        search = {"--recall": recall, "--k": k, "--device": device, "--fp16": fp16, "--allow-hub": allow_hub}
        refuse_unused(search, "a measurement of partitions (omit --engines)")
        _bench_engines(index, queries, as_json)
        return
    from udr.store import named_encoder, open_version
    from udr_index.bench import bench as run

    recall, k = _RECALL if recall is None else recall, _K if k is None else k
    version = open_version(index)
    encoder = named_encoder(version, device, allow_hub=allow_hub)
    low = []
    for measured in run(version, encoder, recall, k=k, queries=queries, device=device, fp16=fp16):
        if measured.recall < recall:
            low.append(measured.task)
        if as_json:
            print_json(asdict(measured))
            continue
        line = f"{measured.task}  {measured.kind}  recall@{k} {measured.recall:.3f}  {measured.milliseconds:.2f} ms"
        if measured.settings:
            line += f"  {measured.settings.parameters} oversample={measured.settings.oversample}"
        print_text(line)
    if low:
        raise VerificationError(f"{index}: recall {recall} is not reached for {', '.join(low)}")


def _bench_engines(index: Path, queries: int, as_json: bool) -> None:
    from udr.store import open_version
    from udr_index.engines import NEAREST, bench_engines

    version = open_version(index)
    measured = bench_engines(version, queries=queries)
    fastest = max(measured, key=lambda item: item.texts_a_second)
    if as_json:
        print_json({"engines": [asdict(item) for item in measured], "fastest": fastest.engine})
        return
    for item in measured:
        print_text(
            f"{item.engine:<10} {item.texts_a_second:>7.0f} texts/s ({item.gain:.2f} times onnx)  "
            f"{item.milliseconds:.2f} ms for one  cosine {item.agreement:.4f}, at least {item.worst:.4f}  "
            f"{NEAREST} nearest shared {item.shared:.3f}"
        )
    folder = shlex.quote(str(index))
    if not version.has_int8:
        print_text(f"onnx-int8 is not in this index; add it: udr index export-encoder {folder} --engine onnx-int8")
    print_text(f"fastest: {fastest.engine}; use it: udr serve {folder} --engine {fastest.engine}")
