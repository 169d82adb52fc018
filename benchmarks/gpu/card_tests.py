"""Every test that needs CUDA, on the card.

    python benchmarks/gpu/card_tests.py --out FOLDER

Runs pytest with ``-m gpu`` over the files of this checkout that have such tests: the machine need not have what the
others import. There is a result only if all passed; else it names those that failed or were skipped, and the part runs
again next time.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from card import REPOSITORY, part

QUICK, MARK = "tests/udr/search/test_faiss_on_gpu.py", "pytest.mark.gpu"
OUTCOMES = {"failure": "failed", "error": "had an error", "skipped": "were skipped"}


def main(given: Sequence[str] | None = None) -> None:
    part("tests", __doc__, measure, given)


def measure(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "passed", lambda: _passed(quick=arguments.quick)


def _passed(*, quick: bool) -> int:
    """Run the tests and return how many there are; ``SystemExit`` unless all passed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # A new card's driver may warn of what no test is about.
        options = ["-m", "gpu", "-q", "-W", "default", "-p", "no:cacheprovider", f"--junitxml={report}"]
        paths = [QUICK] if quick else _marked()
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *paths], cwd=REPOSITORY, stdout=sys.stderr)
        if not report.exists():
            raise SystemExit(f"tests: pytest ended with status {done.returncode} and no report")
        cases = list(ElementTree.parse(report).iter("testcase"))
    problems = [f"{outcome}: {', '.join(names)}" for tag, outcome in OUTCOMES.items() if (names := _names(cases, tag))]
    if problems or done.returncode or not cases:
        raise SystemExit(f"tests: {'; '.join(problems) or f'{len(cases)} ran'} (pytest's status {done.returncode})")
    return len(cases)


def _marked() -> list[str]:
    """Return the files with tests that need CUDA."""
    files = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    return [str(file) for file in files if MARK in file.read_text("utf-8")]


def _names(cases: Sequence[ElementTree.Element], outcome: str) -> list[str]:
    return [f"{case.get('classname')}::{case.get('name')}" for case in cases if case.find(outcome) is not None]


if __name__ == "__main__":
    main()
