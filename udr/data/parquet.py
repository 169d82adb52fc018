"""Parquet files, read and written in constant memory; the only file with pyarrow."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from udr.errors import DataError, brief, optional_import, reason


def parquet_records(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield the records of a Parquet file, whatever their columns; ``DataError`` if two of them have one name."""
    with _reading(path):
        import pyarrow.parquet

        line = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            twice = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]
            if twice:
                raise DataError(f"two columns have the name {brief(twice[0])}; rename one", path=path)
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    line += 1
                    yield line, record


def parquet_notes(path: Path) -> dict[str, str]:
    """Return what a Parquet file says of itself, beside its columns; ``DataError`` if it is none."""
    with _reading(path):
        import pyarrow.parquet

        metadata = pyarrow.parquet.read_schema(path).metadata or {}
        return {name.decode(): value.decode("utf-8", "replace") for name, value in metadata.items()}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise a ``DataError`` if the file cannot be read, or has a value that Python cannot hold."""
    with optional_import("pyarrow, which reads Parquet,", "parquet"):
        import pyarrow
        import pyarrow.parquet
    try:
        yield
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        raise DataError(f"not a readable Parquet file: {reason(error)}", path=path) from error


def write_parquet(
    stream: BinaryIO,
    columns: Mapping[str, str],
    batches: Iterable[Mapping[str, Sequence[object]]],
    notes: Mapping[str, str],
) -> None:
    """Write a Parquet file.

    Args:
        stream: where to.
        columns: the type of each column, ``text``, ``texts`` (a list of them), ``number`` (float64), ``float16`` or
            ``float32`` (a list).
        batches: the values of some rows, by column.
        notes: what the file says of itself, beside the columns.
    """
    with optional_import("pyarrow, which writes Parquet,", "parquet"):
        import pyarrow
        import pyarrow.parquet
    text = pyarrow.string()
    types = {"text": text, "texts": pyarrow.list_(text), "number": pyarrow.float64()}
    types |= {name: pyarrow.list_(getattr(pyarrow, name)()) for name in ("float16", "float32")}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()], metadata=notes)
    with pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for batch in batches:
            writer.write_batch(pyarrow.RecordBatch.from_pydict(dict(batch), schema=schema))
