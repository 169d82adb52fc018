"""``udr init`` from a table to a task folder that ``udr tasks check`` accepts."""

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from udr.data import ENOUGH_TEST_ROWS, Kind, few_test_rows, input_text, task_files
from udr.errors import ConfigError, DataError, listed
from udr.files import fresh_folder, refuse_remote, sha256, shown_as, sync, sync_tree
from udr.models import SentenceEncoder
from udr.types import Json, Row
from udr_index.plural import counted
from udr_index.preparation.config import InitConfig
from udr_index.preparation.conversion import Conversion, convert
from udr_index.preparation.tables import Table
from udr_index.preparation.task_file import task_toml
from udr_index.quality import CheckConfig, Report, Severity, check
from udr_index.quality import Kind as FindingKind
from udr_index.splitting import NEARLY_REPEAT, Holdout, near_pairs, split_rows, write_rows

LONG_CHARACTERS = 1000
"""Inputs above this many characters are reported as long: about the 256 tokens that a small encoder reads."""

_FILES = {"task.toml", "train.jsonl", "test.jsonl", "removed.jsonl"}
"""What ``udr init`` and ``udr tasks check --fix`` write into a task's folder."""

_SHOWN_LINES = 5
_SHOWN_LABELS = 12


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task that was written.

    Attributes:
        config: what was asked for.
        table: the table.
        conversion: the task, its rows, and what was left out.
        holdout: the rows of train and test.
        report: what ``udr tasks check`` finds: warnings only.
    """

    config: InitConfig
    table: Table
    conversion: Conversion
    holdout: Holdout
    report: Report

    def to_json(self) -> dict[str, Json]:
        """Return the JSON of ``udr init --json``."""
        return {
            "folder": str(self.config.folder),
            "format": self.table.format,
            "task": self.conversion.task.to_json(),
            "train": len(self.holdout.train),
            "test": len(self.holdout.test),
            "left_out": {reason: list(lines) for reason, lines in self.conversion.left_out.items()},
            "notices": [*self.notices()],
            "findings": [finding.to_json() for finding in self.report.findings],
        }

    def lines(self) -> Iterator[str]:
        """Yield what was read, left out and written, a line each."""
        conversion, name = self.conversion, self.table.path.name
        yield f"{name}: {len(conversion.rows)} rows kept"
        for reason, numbers in conversion.left_out.items():
            more = ", ..." if len(numbers) > _SHOWN_LINES else ""
            shown = ", ".join(map(str, numbers[:_SHOWN_LINES]))
            yield f"{name}: left out {len(numbers)}: {reason} (line {shown}{more})"
        for notice in self.notices():
            yield f"{name}: {notice}"
        yield f"{self.config.folder}: {len(self.holdout.train)} rows in train.jsonl, {self._test()}"
        if conversion.task.kind is Kind.CLASSIFICATION:
            counts = Counter(row.target for row in conversion.rows).most_common()
            first = ((label if label.isprintable() else repr(label), count) for label, count in counts[:_SHOWN_LABELS])
            shown = ", ".join(f"{label} {count}" for label, count in first)
            more = f" and {len(counts) - _SHOWN_LABELS} more" if len(counts) > _SHOWN_LABELS else ""
            yield f"{self.config.folder}: {len(counts)} labels: {shown}{more}"
        # A notice tells of similar labels, with the option that merges them.
        told = {FindingKind.SIMILAR_LABELS}
        for found in self.report.findings:
            # What to do is said once, for train and test alike.
            if found.kind not in told:
                yield str(found)
            elif found.kind is not FindingKind.SIMILAR_LABELS:
                yield str(replace(found, message=found.message.partition("; ")[0]))
            told.add(found.kind)

    def _test(self) -> str:
        if not self.holdout.test:
            return "none held out"
        together = self.holdout.together
        near = f"; {together} rows {NEARLY_REPEAT}" if together else ""
        like = ", each label in the same proportion" if self.conversion.task.labels and not self.holdout.notice else ""
        return f"{len(self.holdout.test)} in test.jsonl{like}{near}"

    def notices(self) -> Iterator[str]:
        """Yield what is worth knowing and no finding of the check, a sentence each."""
        yield from self.conversion.notices
        task = self.conversion.task
        lengths = {row.id: len(input_text(task, row.input, row.choices)) for row in self.conversion.rows}
        long = [id for id, length in lengths.items() if length > LONG_CHARACTERS]
        if long:
            longest = max(long, key=lengths.__getitem__)
            yield (
                f"{counted(len(long), 'row has', 'rows have')} more than {LONG_CHARACTERS} characters (the longest "
                f"{lengths[longest]}, id {longest}); an encoder reads only the beginning: see encoder_input"
            )
        if self.holdout.notice:
            yield self.holdout.notice
        tested = {row.target for row in self.holdout.test}
        untested = [repr(label) for label in task.labels if label not in tested]
        if untested and self.holdout.test:
            shown = ", ".join(untested[:_SHOWN_LABELS]) + (", ..." if len(untested) > _SHOWN_LABELS else "")
            labels = counted(len(untested), "label has", "labels have")
            yield f"{labels} no test row, for lack of rows that differ enough: {shown}"
        remedy = f"add --test-rows {ENOUGH_TEST_ROWS}"
        if len(self.conversion.rows) < 2 * ENOUGH_TEST_ROWS:
            remedy = "that takes more rows than this table has"
        if few := few_test_rows(len(self.holdout.test), remedy):
            yield few


def prepare(config: InitConfig, table: Table) -> Prepared:
    """Make a task folder of a table. Nothing is written unless all of it can be.

    Raises:
        ConfigError: the folder exists, or another task has its name; or as ``convert``.
        DataError: as ``convert``.
        ModelError: the encoder cannot be loaded.
    """
    refuse_existing(config)
    conversion = convert(table, config)
    task, rows = conversion.task, conversion.rows
    near = None
    if config.model is not None:
        near = near_pairs(task, rows, SentenceEncoder.load(config.model, device=config.device))
    holdout = split_rows(task, rows, config.test_rows, config.seed, near)
    return Prepared(config, table, conversion, holdout, _write(config, conversion, holdout))


def refuse_existing(config: InitConfig) -> None:
    """Raise ``ConfigError`` if the task's folder exists and shall not be replaced, or another task has its name."""
    refuse_remote(config.out)
    folder = config.folder
    if folder.exists() and not config.replace:
        raise ConfigError(
            f"{folder}: exists; add --replace to make it anew (what was edited in it is lost), or choose another "
            "--name or --out"
        )
    if folder.exists() and (others := _others(folder)):
        raise ConfigError(
            f"--replace: {folder} holds more than udr init writes ({listed(others, len(others))}); remove that, or "
            "choose another --name or --out"
        )
    for path in task_files(config.out):
        if path.parent.name == folder.name and path.parent != folder:
            raise ConfigError(f"{path.parent}: is a task named {folder.name!r} already; choose another --name")


def _others(folder: Path) -> list[str]:
    """Return the names in a folder that are not those of a task's files; its own if it is a file."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    return sorted(names - _FILES)


def _write(config: InitConfig, conversion: Conversion, holdout: Holdout) -> Report:
    """Write the folder beside its place, check it, and give it its name."""
    config.out.mkdir(parents=True, exist_ok=True)
    try:
        hidden = config.out / f".init-{secrets.token_hex(4)}"
        with shown_as(hidden, config.out), fresh_folder(hidden) as staging:
            staged = staging / config.folder.relative_to(config.out)
            staged.mkdir(parents=True)
            # A name need not be UTF-8, which TOML is.
            file = os.fsencode(config.table.name).decode(errors="backslashreplace")
            source: dict[str, Json] = {"file": file, "sha256": sha256(config.table)}
            (staged / "task.toml").write_text(task_toml(conversion.task, source), "utf-8")
            splits: dict[str, tuple[Row, ...]] = {"train": holdout.train, "test": holdout.test}
            for split, rows in splits.items():
                if rows:
                    write_rows(staged / f"{split}.jsonl", rows, config.table)
            report = check(CheckConfig(tasks=staging))
            if errors := [finding for finding in report.findings if finding.severity is Severity.ERROR]:
                raise DataError(f"what was made of it does not pass udr tasks check: {errors[0]}", path=config.table)
            sync_tree(staged)
            config.folder.parent.mkdir(exist_ok=True)
            if config.folder.exists():
                config.folder.rename(staging / "replaced")
            staged.rename(config.folder)
            sync(config.folder.parent)
    finally:
        # Only if they are empty: nothing was written.
        with suppress(OSError):
            config.out.rmdir()
    return report
