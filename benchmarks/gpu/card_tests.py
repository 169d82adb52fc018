"""Every test that needs CUDA, on the card.

    python benchmarks/gpu/card_tests.py --out FOLDER

Runs pytest with ``-m gpu`` over the tests of this checkout. The result names the tests that failed or were skipped; a
skipped one was not run, so the part counts as passed only if none is.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from card import REPOSITORY, part

QUICK = "tests/udr/search/test_faiss_on_gpu.py"


def main(given: Sequence[str] | None = None) -> None:
    part("tests", __doc__, measure, given)


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # A new card's driver may warn of what no test is about.
        options = ["-m", "gpu", "-q", "-W", "default", "-p", "no:cacheprovider", f"--junitxml={report}"]
        paths = [QUICK] if arguments.quick else ["tests"]
        done = subprocess.run([sys.executable, "-m", "pytest", *options, *paths], cwd=REPOSITORY, stdout=sys.stderr)
        if not report.exists():
            raise SystemExit(f"tests: pytest ended with status {done.returncode} and no report")
        cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [_name(case) for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [_name(case) for case in cases if case.find("skipped") is not None]
    return {
        "status": done.returncode,
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": failed,
        "skipped": skipped,
        "all_passed": bool(cases) and not failed and not skipped,
    }


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"


if __name__ == "__main__":
    main()
