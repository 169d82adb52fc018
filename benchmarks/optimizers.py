"""The cost and quality of LOMO relative to AdamW: peak memory and validation NDCG@8 of one training on a CPU.

    python benchmarks/optimizers.py TASKS --feedback FILE --out FOLDER [--tasks sst5,...] [--rates 1e-2,3e-2,1e-1]

FILE holds the scores of the first iteration of ``quality.py``, which every training reads. LOMO updates a weight as
soon as its gradient is computed and keeps neither gradients nor moments, which saves three times the size of the
weights relative to AdamW; its learning rate is that of plain gradient descent, so several are tried. Each training runs
in its own process; its peak is the resident memory. Prints a JSON line per training; existing results are not measured
again.
"""

import argparse
import json
import os
import subprocess
import time
from functools import partial
from pathlib import Path

from measuring import UDR, measured_once, parser
from quality_calls import ABLATED, CANDIDATES, QUERIES

from udr.models import BASE_ENCODER, DEFAULT_LM


def main() -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--feedback", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--tasks", dest="names", default=ABLATED)
    options.add_argument("--rates", default="1e-2,3e-2,1e-1", help="learning rates of LOMO")
    options.add_argument("--dtype", default="bfloat16", help="of the scores and of the training")
    arguments = options.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for optimizer, rate in [("adamw_torch", "1e-4"), *(("lomo", rate) for rate in arguments.rates.split(","))]:
        folder = arguments.out / f"{optimizer}-{rate}"
        settings = {"tasks": arguments.names, "dtype": arguments.dtype, "feedback": str(arguments.feedback.resolve())}
        measured_once(folder.with_suffix(".json"), partial(_train, arguments, optimizer, rate, folder), **settings)


def _train(arguments: argparse.Namespace, optimizer: str, rate: str, folder: Path) -> dict[str, object]:
    command = [UDR, "train", str(arguments.tasks), "--tasks", arguments.names, "--preset", "cpu", "--iterations", "1"]
    sizes = ["--queries", str(QUERIES), "--candidates", str(CANDIDATES)]
    models = ["--lm", DEFAULT_LM, "--model", BASE_ENCODER, "--test-rows", "0"]
    dtypes = ["--dtype", arguments.dtype, "--train-dtype", arguments.dtype]
    how = ["--set", f"train.optimizer={optimizer}", "--set", f"train.learning_rate={rate}"]
    paths = ["--feedback", str(arguments.feedback), "--out", str(folder)]
    started = time.monotonic()
    child = subprocess.Popen([*command, *sizes, *models, *dtypes, *how, *paths])
    # Linux counts the peak in KiB.
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{optimizer} at {rate}: the training exited with {os.waitstatus_to_exitcode(status)}")
    lines = [json.loads(line) for line in (folder / "iteration-0" / "metrics.jsonl").read_text("utf-8").splitlines()]
    curve = [round(line["ndcg"]["mean"], 4) for line in lines if "ndcg" in line]
    seconds = round(time.monotonic() - started)
    peak = round(usage.ru_maxrss / 1024)
    return {"optimizer": optimizer, "learning_rate": float(rate), "peak_mib": peak, "seconds": seconds, "ndcg": curve}


if __name__ == "__main__":
    main()
