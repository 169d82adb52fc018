"""Proves that a release can be installed: its archives, each extra alone, what it consists of, and the licences.

    python deploy/checks/release.py WORK [--extras NAME,...] [--pip-args ARGUMENTS]

WORK gets the archives, and a report of each part; environments are made there, and deleted again:

- ``archives``: the source distribution, and the wheel that is built from it, with the version of ``udr.__version__``;
- for each extra, and for none: a fresh environment with the wheel and that extra alone, in which ``pip check`` finds
  nothing, what the extra is for can be imported, ``udr`` and its commands print their help, ``udr doctor`` knows the
  extra, and a command whose extra is missing says so in one line. Extras for GPUs are only resolved;
- ``sbom.json``: what ``all,cpu`` installs, as CycloneDX;
- ``licences.md``: the licences of these packages; one that is unknown, or that restricts how udr may be used, fails.

Prints a line per proof. The exit status is 1 if one fails.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
GPU = ("gpu", "gpu-cu12")
NOT_RELEASED = ("dev", "docs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
COMMANDS = ("retrieve", "prompt", "doctor", *PROJECT["entry-points"]["udr.commands"])
USES = {
    "all": "udr_training.trainer.train",
    "cpu": "udr.search.faiss_cpu",
    "dspy": "udr.integrations.dspy",
    "excel": "python_calamine",
    "haystack": "udr.integrations.haystack",
    "index": "udr.models.encoder",
    "langchain": "udr.integrations.langchain",
    "llama-index": "udr.integrations.llama_index",
    "mcp": "udr.integrations.mcp",
    "onnx": "udr.models.onnx.encoder",
    "openvino": "openvino",
    "parquet": "udr.data.parquet",
    "ray": "ray",
    "remote": "s3fs",
    "service": "udr_service.app",
    "telemetry": "opentelemetry.sdk.trace",
    "tensorboard": "tensorboard",
    "tiktoken": "udr.models.counting.tiktoken_tokenizer",
    "training": "udr_training.trainer.train",
}
"""What can be imported with an extra alone: our module that needs it, or the package that we import when it is used.

The extras for indexes and training come without FAISS, so what searches cannot be imported with them."""
RESTRICTED = re.compile(r"\bA?GPL|SSPL|Commons Clause|Non-?Commercial|BUSL", re.IGNORECASE)
WEAKER = re.compile(r"\bLGPL|Lesser General Public|with .*exception", re.IGNORECASE)

LIST = """
import json
from importlib.metadata import distributions
def licence(metadata):
    expression = metadata.get("License-Expression")
    classified = [item for item in metadata.get_all("Classifier") or [] if item.startswith("License ::")]
    classifiers = [item.rpartition(" :: ")[2] for item in classified]
    text = (metadata.get("License") or "").strip().splitlines()
    return expression or ", ".join(classifiers) or (text[0][:80] if text else "")
found = {item.metadata["Name"]: (item.version, licence(item.metadata)) for item in distributions()}
print(json.dumps(dict(sorted(found.items(), key=lambda pair: pair[0].lower()))))
"""


# Packages that are only on the path would look as if they were installed.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class FailedError(Exception):
    """A proof failed."""


def run(*command: str | Path, expect: int = 0, cwd: Path | None = None) -> str:
    """Run a command and return what it printed; ``FailedError`` if its status is another."""
    result = subprocess.run(list(map(str, command)), cwd=cwd, env=CLEAN, capture_output=True, text=True, check=False)
    if result.returncode != expect:
        tail = (result.stdout + result.stderr).strip().splitlines()[-15:]
        raise FailedError(f"{shlex.join(map(str, command))} exited with {result.returncode}:\n" + "\n".join(tail))
    return result.stdout + result.stderr


def archives(work: Path) -> Path:
    """Build the source distribution and, from it, the wheel; return the wheel."""
    out = work / "dist"
    shutil.rmtree(out, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=ROOT)
    version = run(sys.executable, "-c", "import udr; print(udr.__version__)", cwd=ROOT).strip()
    names = sorted(path.name for path in out.iterdir())
    if names != [f"udr_icl-{version}-py3-none-any.whl", f"udr_icl-{version}.tar.gz"]:
        raise FailedError(f"expected the archives of version {version}; found {', '.join(names)}")
    return out / names[0]


class Environment:
    """A fresh environment with the wheel and its extras.

    Args:
        folder: where it is made.
        requirement: the wheel, with extras in brackets.
        pip_args: more arguments of pip.
    """

    def __init__(self, folder: Path, requirement: str, pip_args: list[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True, symlinks=True)
        self.python, self.udr = folder / "bin" / "python", folder / "bin" / "udr"
        run(self.python, "-m", "pip", "install", "--quiet", "--no-compile", *pip_args, requirement, cwd=folder)
        self.folder = folder

    def packages(self) -> dict[str, tuple[str, str]]:
        """Return the version and licence of each installed package."""
        listed: dict[str, tuple[str, str]] = json.loads(run(self.python, "-c", LIST, cwd=self.folder))
        return listed


def extra(work: Path, wheel: Path, name: str, pip_args: list[str]) -> str:
    """Prove one extra alone; return what was seen. The empty name is the package without extras."""
    requirement = f"{wheel}[{name}]" if name else str(wheel)
    folder = work / "environment"
    if name in GPU:
        if not shutil.which("nvidia-smi"):
            return "not installed: there is no GPU here"
        run(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", *pip_args, requirement)
        return "resolved"
    here = Environment(folder, requirement, pip_args)
    run(here.python, "-m", "pip", "check", cwd=folder)
    modules = ["udr", "udr_index", "udr_service", "udr_training", *([USES[name]] if name else [])]
    run(here.python, "-c", f"import {', '.join(modules)}; [getattr(udr, n) for n in dir(udr)]", cwd=folder)
    for command in COMMANDS:
        run(here.udr, command, "--help", cwd=folder)
    # The extras for training come without FAISS, whose builds exclude one another.
    lacks = "cpu" if name in ("all", "training") else "training"
    missing = run(here.udr, "train", "tasks", "--out", "run", cwd=folder, expect=1)
    if not re.fullmatch(rf"udr: error: .* is not installed; run: .*\[{lacks}\]'?\n", missing):
        raise FailedError(f"udr train does not say in a line that the extra {lacks!r} is missing: {missing}")
    findings = json.loads(run_any(here.udr, "doctor", "--json", "--port", "0", cwd=folder).splitlines()[0])["findings"]
    complete = next(item["found"] for item in findings if item["found"].startswith("complete: "))
    if name and name != "all" and name not in re.split(r"[:, ]+", complete):
        raise FailedError(f"udr doctor does not find the extra complete: {complete}")
    return f"{len(here.packages())} packages"


def run_any(*command: str | Path, cwd: Path) -> str:
    """Return what a command printed on standard output, whatever its status."""
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=CLEAN, capture_output=True, text=True, check=False
    ).stdout


def bill_of_materials(environment: Environment, work: Path) -> str:
    """Write what an environment has as CycloneDX 1.6, with licences."""
    packages = environment.packages()
    components = [
        {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}",
            "licenses": [{"license": {"name": licence or "unknown"}}],
        }
        for name, (version, licence) in packages.items()
        if name not in ("pip", "udr-icl")
    ]
    own = {"type": "application", "name": "udr-icl", "version": packages["udr-icl"][0]}
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": own}}
    (work / "sbom.json").write_text(json.dumps({**bill, "components": components}, indent=1) + "\n", "utf-8")
    return f"{len(components)} components in {work / 'sbom.json'}"


def licences(environment: Environment, work: Path) -> str:
    """Write the licences of an environment's packages; ``FailedError`` if one is unknown or restricts the use."""
    packages = environment.packages()
    lines = [f"| {name} | {version} | {licence or '**unknown**'} |" for name, (version, licence) in packages.items()]
    table = "\n".join(["| package | version | licence |", "|---|---|---|", *lines])
    (work / "licences.md").write_text(table + "\n", "utf-8")
    wrong = [
        name
        for name, (_, text) in packages.items()
        if not text or (RESTRICTED.search(text) and not WEAKER.search(text))
    ]
    if wrong:
        raise FailedError(
            f"licences that are unknown or restrict the use: {', '.join(wrong)}; see {work / 'licences.md'}"
        )
    return f"{len(packages)} packages, all licences known, in {work / 'licences.md'}"


def proofs(work: Path, names: list[str], pip_args: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the outcome of each proof; ``FailedError`` at the first that fails."""
    wheel = archives(work)
    yield "archives", f"{wheel.name}, and the source distribution it is built from"
    for name in names:
        yield f"extra {name or '(none)'}", extra(work, wheel, name, pip_args)
    if "all" in names:
        complete = Environment(work / "environment", f"{wheel}[all,cpu]", pip_args)
        missing = run(complete.udr, "train", "tasks", "--out", "run", cwd=complete.folder, expect=2)
        yield "extras all,cpu", f"complete: {missing.strip()}"
        yield "sbom", bill_of_materials(complete, work)
        yield "licences", licences(complete, work)


def main() -> int:
    parser = argparse.ArgumentParser(description="Prove that a release can be installed.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--extras", help="only these, separated by commas; none for no extra")
    parser.add_argument("--pip-args", default="", help="more arguments of pip, in one text")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    every = ["none", *(name for name in PROJECT["optional-dependencies"] if name not in NOT_RELEASED)]
    names = ["" if name == "none" else name for name in (arguments.extras or ",".join(every)).split(",")]
    try:
        for proof, outcome in proofs(work, names, shlex.split(arguments.pip_args)):
            print(f"ok      {proof}: {outcome}", flush=True)
    except FailedError as error:
        print(f"FAILED  {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work / "environment", ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
