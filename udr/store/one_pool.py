"""An index version of one pool, for a search without a build: its vectors are in memory, its rows in a folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

from udr.data import ENCODER_WORDING, Pool, TaskFamily, encoder_demonstration, input_words
from udr.search import RULE, BM25Search
from udr.store.manifest import EncoderStamp, Manifest, Partition
from udr.store.rows import SCHEMA, record
from udr.store.version import DEMONSTRATIONS, IndexVersion, bm25_path


def pool_manifest(pool: Pool, encoder: EncoderStamp) -> Manifest:
    """Return the manifest of a pool's version: flat, with BM25, without files, label head or token counts."""
    task = pool.task
    return Manifest(
        version="",
        encoder=encoder,
        tokenizer=None,
        wording=ENCODER_WORDING,
        dtype="float32",
        families={task.family: TaskFamily(task.family, task.instruction)},
        partitions={task.name: Partition(task=task, count=len(pool), lexical=RULE)},
        files={},
    )


def write_pool(folder: Path, pool: Pool, encoder: EncoderStamp) -> IndexVersion:
    """Write the rows of a pool and their words to an empty folder, and return the version.

    The rows' positions are those in the order of their ids, as in a built index. ``Retriever`` takes a search of their
    vectors beside the version.
    """
    task = pool.task
    rows = sorted(pool.rows, key=lambda row: row.id)
    (folder / bm25_path(task.name)).parent.mkdir(parents=True)
    BM25Search(input_words(task, row.input, row.choices) for row in rows).save(folder / bm25_path(task.name))
    with closing(sqlite3.connect(folder / DEMONSTRATIONS)) as connection, connection:
        connection.executescript(SCHEMA)
        records = (record(task, row, encoder_demonstration(task, row)) for row in rows)
        connection.executemany(
            "INSERT INTO demonstrations VALUES (?, ?, ?, ?, ?, ?)",
            ((name, position, *columns) for position, (name, *columns) in enumerate(records)),
        )
    return IndexVersion(folder, pool_manifest(pool, encoder))
