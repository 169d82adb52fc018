"""Records of a Parquet file; the only file that imports pyarrow."""

from collections.abc import Iterator
from pathlib import Path

from udr.errors import DataError, optional_import, reason


def read_records(path: Path) -> Iterator[dict[str, object]]:
    """Yield the records of a Parquet file, one batch in memory at a time; ``DataError`` if it is not Parquet."""
    with optional_import("pyarrow, which reads Parquet,", "parquet"):
        import pyarrow
        import pyarrow.parquet
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"not a readable Parquet file: {reason(error)}", path=path) from error
