"""A collection whose test rows are those that ``quality.py`` has not looked at, to confirm a result.

    python benchmarks/unseen_rows.py TASKS --out FOLDER [--names sst5,...]
    udr evaluate FOLDER --retrievers A,B --pool 800 --output OTHER ...
    python benchmarks/paired.py FOLDER --evaluation OTHER A B

All else in FOLDER is a copy of TASKS, so the pools, and the indexes of them, are the same.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from measuring import parser
from quality_calls import ROWS, SEED, TASKS

from udr.data import open_collection, sample
from udr.files import write_atomically


def main(given: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("tasks", type=Path)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--names", default=TASKS)
    options.add_argument("--rows", type=int, default=ROWS, help="that the comparison has looked at, of each task")
    arguments = options.parse_args(given)
    shutil.copytree(arguments.tasks, arguments.out)
    for name, folder in open_collection(arguments.out, arguments.names.split(",")).tasks.items():
        rows, file = folder.rows("test"), folder.file("test")
        seen = {row.id for row in sample(rows, arguments.rows, SEED)}
        lines = [line for line in file.read_bytes().splitlines() if line.strip()]
        left = [line + b"\n" for line, row in zip(lines, rows, strict=True) if row.id not in seen]
        write_atomically(file, b"".join(left))
        print(f"{name}: {len(left)} of {len(rows)} test rows")


if __name__ == "__main__":
    main()
