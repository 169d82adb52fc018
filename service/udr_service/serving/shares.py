"""Shares: what all workers of a service hold together, so that its limits are the limits of all of them."""

import fcntl
import hashlib
import mmap
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import IntEnum, auto

import numpy as np

_SETS, _WAYS = 4096, 8
"""The table of clients: each has a place in one of the sets; in a full set, the one not seen for longest yields."""


class Count(IntEnum):
    """What is counted in all."""

    READY = 0
    CONNECTIONS = auto()
    QUEUE = auto()
    BODIES = auto()
    ANSWERS = auto()
    UPSTREAM = auto()


@dataclass(slots=True)
class Debt:
    """What was taken beyond a rate, as of a time (by ``time.monotonic``)."""

    debt: float = 0.0
    then: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Use:
    """What a client takes: its requests in flight, what it has queued, and what it took beyond its rates."""

    open: int = 0
    queued: int = 0
    requests: Debt = field(default_factory=Debt)
    items: Debt = field(default_factory=Debt)


class Shares:
    """The shares of a service's only process, which holds everything itself."""

    @property
    def workers(self) -> int:
        """How many processes answer."""
        return 1

    def hold(self, count: Count, own: int) -> int:
        """Set what this process holds and return what all hold; if that is too much, the caller sets it back."""
        return own

    def site(self, name: str, own: int) -> int:
        """Set how many connections this process has from an address or network; return how many all have."""
        return own

    def use(self, name: str, own: Use) -> AbstractContextManager[Use]:
        """Yield what a client takes, to be changed until the block ends; ``own`` is what this process knows of it."""
        return nullcontext(own)


class SharedShares(Shares):
    """The shares of several processes, in memory that they inherit from the one that made it.

    Each process writes its own counts only, so these need no lock. What clients take needs one: a lock of the system's,
    which it takes back from a process that is killed. A client is known by a keyed hash of its name.

    Args:
        workers: how many processes there may be.
    """

    def __init__(self, workers: int) -> None:
        entry = [("key", "u8"), ("seen", "f8"), ("debts", "f8", 4)]
        entry += [(name, "i4", workers) for name in ("open", "queued", "connections")]
        size = len(Count) * workers * 8
        kind = np.dtype(entry)
        self._memory = mmap.mmap(-1, size + _SETS * _WAYS * kind.itemsize)
        self._counts = np.frombuffer(self._memory, np.int64, len(Count) * workers).reshape(len(Count), workers)
        self._table = np.frombuffer(self._memory, kind, _SETS * _WAYS, size).reshape(_SETS, _WAYS)
        self._lock = _lock_file()
        self._secret, self._number = secrets.token_bytes(16), 0

    def become(self, number: int) -> None:
        """This process is worker ``number``, from 0."""
        self._number = number

    def forget(self, number: int) -> None:
        """A worker has ended and holds nothing any more."""
        self._counts[:, number] = 0
        with self._locked():
            for name in ("open", "queued", "connections"):
                self._table[name][..., number] = 0

    @property
    def workers(self) -> int:
        """How many workers answer."""
        return int(self._counts[Count.READY].sum())

    def hold(self, count: Count, own: int) -> int:
        """See ``Shares.hold``. Written before it is read, so of two that do this at once, one sees the other."""
        self._counts[count, self._number] = own
        return int(self._counts[count].sum())

    def has_fewer(self, own: int) -> bool:
        """Return whether another worker answers and has fewer connections."""
        ready = self._counts[Count.READY] > 0
        ready[self._number] = False
        return bool((self._counts[Count.CONNECTIONS][ready] < own).any())

    def site(self, name: str, own: int) -> int:
        """See ``Shares.site``."""
        with self._entry(f"site {name}") as entry:
            entry["connections"][self._number] = own
            return int(entry["connections"].sum())

    @contextmanager
    def use(self, name: str, own: Use) -> Iterator[Use]:
        """See ``Shares.use``; ``own`` is not used."""
        with self._entry(name) as entry:
            debts = entry["debts"]
            use = Use(int(entry["open"].sum()), int(entry["queued"].sum()), Debt(*debts[:2]), Debt(*debts[2:]))
            before = use.open, use.queued
            try:
                yield use
            finally:
                debts[:] = use.requests.debt, use.requests.then, use.items.debt, use.items.then
                # Not below 0: the entry may have been another client's meanwhile.
                for kind, change in (("open", use.open - before[0]), ("queued", use.queued - before[1])):
                    entry[kind][self._number] = max(0, entry[kind][self._number] + change)

    @contextmanager
    def _entry(self, name: str) -> Iterator[np.void]:
        """Lock the table; yield a client's entry."""
        key = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8, key=self._secret).digest())
        with self._locked():
            ways = self._table[key % _SETS]
            found = np.flatnonzero(ways["key"] == key)
            if len(found):
                way = int(found[0])
            else:
                held = ways["open"].sum(1) + ways["queued"].sum(1) + ways["connections"].sum(1)
                way = int(np.lexsort((ways["seen"], held > 0))[0])
                ways[way] = np.zeros((), ways.dtype)
                ways[way]["key"] = key
            entry: np.void = ways[way]
            entry["seen"] = time.monotonic()
            yield entry

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


def _lock_file() -> int:
    """Return the descriptor of a file without a name; only Linux needs no disk for it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("udr")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
