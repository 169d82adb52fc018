"""What LOMO costs and is worth beside AdamW: peak memory and validation NDCG@8 of one training on a CPU.

    python benchmarks/optimizers.py TASKS --feedback FILE --out FOLDER [--tasks sst5,...] [--rates 1e-2,3e-2,1e-1]

FILE holds the scores of the first iteration of ``quality.py``; every training reads the same ones. LOMO changes a
weight as soon as its gradient is there and keeps neither gradients nor moments, so against AdamW it saves three times
the size of the weights; its learning rate is that of plain descent, so several are tried. Each training is a process of
its own; its peak is the resident memory that the system saw. Prints one JSON line a training; those that are done are
not done again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from udr.models import DEFAULT_ENCODER, DEFAULT_LM

TASKS = "sst5,trec,snli,comv,commongen"
QUERIES, CANDIDATES = 150, 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--feedback", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", dest="names", default=TASKS)
    parser.add_argument("--rates", default="1e-2,3e-2,1e-1", help="learning rates of LOMO")
    parser.add_argument("--dtype", default="bfloat16", help="that the scores were made with, and of the training")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for optimizer, rate in [("adamw_torch", "1e-4"), *(("lomo", rate) for rate in arguments.rates.split(","))]:
        folder = arguments.out / f"{optimizer}-{rate}"
        kept = folder.with_suffix(".json")
        if not kept.exists():
            kept.write_text(json.dumps(_train(arguments, optimizer, rate, folder)) + "\n", "utf-8")
        print(kept.read_text("utf-8"), end="", flush=True)
    return 0


def _train(arguments: argparse.Namespace, optimizer: str, rate: str, folder: Path) -> dict[str, object]:
    what = ["train", str(arguments.tasks), "--tasks", arguments.names, "--preset", "cpu", "--iterations", "1"]
    sizes = ["--queries", str(QUERIES), "--candidates", str(CANDIDATES)]
    models = ["--lm", DEFAULT_LM, "--model", DEFAULT_ENCODER, "--test-rows", "0"]
    dtypes = ["--dtype", arguments.dtype, "--train-dtype", arguments.dtype]
    how = ["--set", f"train.optimizer={optimizer}", "--set", f"train.learning_rate={rate}"]
    places = ["--feedback", str(arguments.feedback), "--out", str(folder)]
    udr = str(Path(sys.executable).with_name("udr"))
    started = time.monotonic()
    child = subprocess.Popen([udr, *what, *sizes, *models, *dtypes, *how, *places])
    # Linux counts the peak in KiB.
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{optimizer} at {rate}: the training ended with {os.waitstatus_to_exitcode(status)}")
    lines = [json.loads(line) for line in (folder / "iteration-0" / "metrics.jsonl").read_text("utf-8").splitlines()]
    curve = [round(line["ndcg"]["mean"], 4) for line in lines if "ndcg" in line]
    seconds = round(time.monotonic() - started)
    peak = round(usage.ru_maxrss / 1024)
    return {"optimizer": optimizer, "learning_rate": float(rate), "peak_mib": peak, "seconds": seconds, "ndcg": curve}


if __name__ == "__main__":
    sys.exit(main())
