"""The index, the keys and the server that ``hostile.py`` attacks."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from measuring import UDR
from service_made_up import TASKS, Words, sentence
from service_running import Server, serving

LONG, MANY, SPLIT = "long", "many", "split-{}"
"""The tasks that honest clients do not use: one of long rows, one of many, and hundreds with two fields."""

_TASK = """
name = "{name}"
family = "{family}"
kind = "classification"
instruction = "Say what the text is about."
input = "{input}"
output = "About: {{target}}"
metric = "accuracy"
labels = ["nature", "people"]
"""
_SCOPES = {"honest": "read", "hostile": "write", "admin": "admin"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """The number of small tasks, and the rows of the tasks."""

    small: int
    many: int
    long: int


WHOLE, QUICK = Sizes(300, 50_000, 512), Sizes(300, 1_000, 256)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the honest client, the attacker, and an administrator whose key was stolen; empty without keys."""

    honest: str = ""
    hostile: str = ""
    admin: str = ""


@dataclass(frozen=True, slots=True)
class Attacked:
    """What is served, and how.

    Attributes:
        index: the index directory.
        keys: the file of keys; None serves without.
        environment: variables of the server.
    """

    index: Path
    keys: Path | None
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def serving(self, log: Path, descriptors: int | None) -> Iterator[Server]:
        """Run ``udr serve``, its stderr in a file, until the block ends; then kill it: it may be busy for minutes."""
        limit = f"ulimit -n {descriptors}; " if descriptors else ""
        command = ("sh", "-c", f'{limit}exec "$0" "$@" 2> {log}', UDR, "serve")
        keys = {} if self.keys is None else {"UDR_KEYS": str(self.keys)}
        with serving(self.index, command, **self.environment, **keys) as server:
            try:
                yield server
            finally:
                server.process.kill()


def environment(checkout: Path | None) -> dict[str, str]:
    """Return the variables that run the code of a checkout; None runs the same as this process."""
    if checkout is None:
        return {}
    return {"PYTHONPATH": os.pathsep.join(str(checkout / part) for part in (".", "index", "service", "training"))}


def write_keys(path: Path) -> Keys:
    """Write a file of keys, and return the keys, the same every time."""
    keys = {name: f"udr_{hashlib.sha256(name.encode()).hexdigest()}" for name in _SCOPES}
    entries = [
        f'[[keys]]\nname = "{name}"\nscope = "{scope}"\nsha256 = "{hashlib.sha256(keys[name].encode()).hexdigest()}"\n'
        for name, scope in _SCOPES.items()
    ]
    path.write_text("\n".join(entries), "utf-8")
    path.chmod(0o600)
    return Keys(**keys)


def build(folder: Path, sizes: Sizes, model: str | None, variables: Mapping[str, str]) -> Path:
    """Return the index, built below ``folder`` by ``udr index build`` unless it exists."""
    index, tasks = folder / "index", folder / "tasks"
    if not (index / "CURRENT").exists():
        for name in TASKS:
            _write(tasks / name, "honest", "Text: {text}", [{"text": sentence(f"{name} {n}")} for n in range(250)])
        _write(tasks / LONG, LONG, "{text}", [{"text": sentence(f"{n}", Words(700, 700))} for n in range(sizes.long)])
        _write(
            tasks / MANY, MANY, "{text}", [{"text": f"{sentence(f'{n}', Words(3, 3))} {n}"} for n in range(sizes.many)]
        )
        for number in range(sizes.small):
            rows = [{"head": sentence(f"{number} {n}", Words(3, 3)), "tail": str(n)} for n in range(3)]
            _write(tasks / SPLIT.format(number), f"split-{number % 10}", f"{{head}} s{number} {{tail}}", rows)
        command = [UDR, "index", "build", str(tasks), "--out", str(index), "--device", "cpu"]
        subprocess.run([*command, *(["--model", model] if model else [])], env={**os.environ, **variables}, check=True)
    return index


def _write(folder: Path, family: str, template: str, inputs: list[dict[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(_TASK.format(name=folder.name, family=family, input=template), "utf-8")
    with (folder / "train.jsonl").open("w", encoding="utf-8") as lines:
        for number, fields in enumerate(inputs):
            row = {"id": f"{number:06}", "input": fields, "target": ("nature", "people")[number % 2]}
            lines.write(json.dumps(row) + "\n")
