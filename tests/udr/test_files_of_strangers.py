"""Files that somebody else wrote: a reader succeeds, or raises an error in one line, soon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from udr.errors import DataError
from udr.files import parse_toml, read_bytes, read_toml

REPOSITORY = Path(__file__).parents[2]


def test_changed_files_are_errors_in_one_line(tmp_path: Path) -> None:
    """The first executions of ``benchmarks/fuzz_readers.py``; models are left out, whose libraries load for seconds."""
    paths = [REPOSITORY, REPOSITORY / "index", REPOSITORY / "service", REPOSITORY / "training"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    script = REPOSITORY / "benchmarks" / "fuzz_readers.py"
    command = [sys.executable, str(script), "--executions", "400", "--disk", "100", "--out", str(tmp_path)]
    result = subprocess.run([*command, "--skip-model"], capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    tallies = json.loads((tmp_path / "state-0.json").read_text())
    assert len(tallies) == 13
    assert {tally["done"] for tally in tallies.values()} == {400, 100}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".".join("a" * 100_000) + " = 1", "nested more than 16 levels deep"),
        ("a = " + "[" * 100_000, "not TOML: maximum recursion depth"),
        ("a = " + "[" * 40 + "]" * 40, "nested more than 16 levels deep"),
        ("a = " + "9" * 5000, "not TOML: Exceeds the limit"),
    ],
)
def test_toml_has_bounds(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_toml(text)


def test_sentences_and_numbers_are_no_long_keys() -> None:
    text = f'a = """\n{"e. g. " * 99}\n{"1.2." * 7}"""\nb = [{"1.5, " * 99}]\nc.d.e = 1\n'
    assert parse_toml(text)["c"] == {"d": {"e": 1}}


def test_a_file_is_read_within_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(OSError, match="Larger than 4 bytes"):
        read_bytes(path, 4)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        read_bytes(tmp_path / "pipe", 4)
    os.truncate(path, 2_000_000)
    with pytest.raises(DataError, match="a: has 2000000 bytes; a TOML file may have at most"):
        read_toml(path)
