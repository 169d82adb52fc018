"""Parts of ``feedback.py`` that run in their own process, so that a peak of memory is theirs alone."""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from feedback_sides import groups, load, pool_of
from measuring import seconds

from udr_training.feedback import pair_prompt
from udr_training.feedback.packing import Prompt


def in_child(arguments: argparse.Namespace, part: str, task: str, environment: Mapping[str, str] = {}) -> dict:
    """Run one part in a new process."""
    settings = json.dumps(vars(arguments), default=str)
    command = [sys.executable, str(Path(__file__)), part, task, settings]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **environment})
    return json.loads(result.stdout)


def child(part: str, task: str, settings: str) -> dict:
    arguments = argparse.Namespace(**json.loads(settings))
    arguments.tasks = Path(arguments.tasks)
    lm = load(arguments)
    weights = settle()
    long = tuple(int(token) for token in np.random.default_rng(0).integers(1000, 40_000, size=1024))
    options = tuple((1000 + number, 2000, 3000) for number in range(10))
    if part == "forward":
        with torch.inference_mode():
            lm.model.base_model(input_ids=torch.tensor([long], device=arguments.device), use_cache=False)
        return {"above_weights_bytes": peak() - weights}
    if part == "score":
        lm.likelihoods([Prompt((long,), options)])
        return {"above_weights_bytes": peak() - weights}
    prompts = [pair_prompt(lm, pair) for group in groups(pool_of(arguments, task), task, 2) for pair in group]
    duration = seconds(lambda: lm.likelihoods(prompts))
    labels = len(prompts[0].options)
    return {
        "labels": labels,
        "peak_gib": round(peak() / 2**30, 2),
        "pairs_per_second": round(len(prompts) / duration, 2),
    }


def settle() -> int:
    """Return free memory to the system, reset the peak, and return the bytes in use."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return held("VmRSS")


def peak() -> int:
    """Return the peak since then, in bytes; the GPU's if the process uses one."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return held("VmHWM")


def held(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(json.dumps(child(*sys.argv[1:])))
