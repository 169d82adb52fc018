"""Parquet files, read and written in constant memory; the only file with pyarrow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from udr.errors import DataError, optional_import, reason


def parquet_records(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield the records of a Parquet file, whatever their columns."""
    with optional_import("pyarrow, which reads Parquet,", "parquet"):
        import pyarrow
        import pyarrow.parquet
    line = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    line += 1
                    yield line, record
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"not a readable Parquet file: {reason(error)}", path=path) from error


def parquet_notes(path: Path) -> dict[str, str]:
    """Return what a Parquet file says of itself, beside its columns; ``DataError`` if it is none."""
    with optional_import("pyarrow, which reads Parquet,", "parquet"):
        import pyarrow
        import pyarrow.parquet
    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"not a readable Parquet file: {reason(error)}", path=path) from error
    return {name.decode(): value.decode("utf-8", "replace") for name, value in metadata.items()}


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
