"""Records: how a log of writes lies in its file, so that a torn end, an altered byte and a missing record differ.

A file starts with a head; records follow. A head or the head of a record has a checksum of its own, so a length that
was altered is not taken for a record that was cut off. A record's checksum goes on from that of the record before, so
records cannot be lost, swapped or taken from another file. No head of a record is all zeros, since the checksum of the
rest of it would be 0xecbb4b55: zeros up to the end are room that the file got for a record which never came.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAGIC = b"UDRLIVE1"
_HEAD = struct.Struct("<8sQQII")  # magic, net position, bytes of the net records, checksum after them, own checksum
_RECORD = struct.Struct("<IQII")  # length, position, checksum of the content, own checksum
_CHECKSUM = struct.Struct("<I")
HEAD_BYTES = _HEAD.size
_SPAN = 1024 * 1024
"""How many bytes are read at once, where all are; more only of a record that is longer."""


class DamagedRecordError(Exception):
    """Bytes that are complete, but not what was written; says where, and what was found."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a log file.

    Attributes:
        net: the position up to which the file holds only what is left of the writes; every later one is there.
        net_bytes: how many bytes these records take.
        checksum: the chain's, after them.
    """

    net: int = 0
    net_bytes: int = 0
    checksum: int = 0

    def to_bytes(self) -> bytes:
        """Return the head as it lies in the file."""
        return _sealed(_HEAD.pack(_MAGIC, self.net, self.net_bytes, self.checksum, 0))

    @classmethod
    def parse(cls, content: bytes) -> "Head":
        """Return the head at the start of a file; ``DamagedRecordError`` if there is none."""
        if len(content) < HEAD_BYTES or not _is_sealed(content[:HEAD_BYTES]):
            raise DamagedRecordError("its head is altered or missing")
        magic, net, net_bytes, checksum, _ = _HEAD.unpack(content[:HEAD_BYTES])
        if magic != _MAGIC:
            raise DamagedRecordError(f"it starts with {magic!r}, which this udr does not read; found no {_MAGIC!r}")
        return cls(net, net_bytes, checksum)


@dataclass(frozen=True, slots=True)
class Place:
    """A place between two records: the position of the one before, the checksum up to it, the offset in the file."""

    position: int = 0
    checksum: int = 0
    offset: int = HEAD_BYTES


def encode(place: Place, position: int, content: bytes) -> tuple[bytes, Place]:
    """Return a record to be written at a place, and the place after it."""
    checksum = zlib.crc32(content, place.checksum)
    head = _sealed(_RECORD.pack(len(content), position, checksum, 0))
    return head + content, Place(position, checksum, place.offset + len(head) + len(content))


def decode(content: bytes, place: Place, net: int = 0) -> Iterator[tuple[bytes, Place]]:
    """Yield the records that start at a place, each with the place after it.

    An incomplete last one is left out, and so are zeros at the end, which a power failure may leave in its place.

    Args:
        content: the bytes of the file from the place on.
        place: where they start.
        net: the position up to which positions may be missing.

    Raises:
        DamagedRecordError: a complete record is not what was written.
    """
    start = 0
    while len(content) - start >= _RECORD.size:
        head = content[start : start + _RECORD.size]
        where = f"the record at byte {place.offset}"
        if not _is_sealed(head):
            if not any(content[start:]):
                return
            raise DamagedRecordError(f"the head of {where} has another checksum than was written")
        length, position, checksum, _ = _RECORD.unpack(head)
        stop = start + _RECORD.size + length
        if len(content) < stop:
            return
        body = content[start + _RECORD.size : stop]
        if zlib.crc32(body, place.checksum) != checksum:
            raise DamagedRecordError(f"{where} has another checksum than was written")
        if position <= place.position or (position > net and position != max(place.position, net) + 1):
            raise DamagedRecordError(f"{where} has position {position}, but follows {place.position}")
        place = Place(position, checksum, place.offset + stop - start)
        start = stop
        yield body, place


def scan(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield all records of a file, in little memory: the content, and whether it is the last of the net ones.

    Raises:
        DamagedRecordError: the head or a complete record is not what was written.
    """
    file.seek(0)
    head = Head.parse(file.read(HEAD_BYTES))
    place, span, end = Place(), _SPAN, HEAD_BYTES + head.net_bytes
    while True:
        start = place
        file.seek(start.offset)
        content = file.read(span)
        for body, place in decode(content, start, head.net):
            yield body, place.offset == end
        if place is start:
            if len(content) < span:
                return
            span *= 2


def _sealed(head: bytes) -> bytes:
    return head[: -_CHECKSUM.size] + _CHECKSUM.pack(zlib.crc32(head[: -_CHECKSUM.size]))


def _is_sealed(head: bytes) -> bool:
    return _CHECKSUM.pack(zlib.crc32(head[: -_CHECKSUM.size])) == head[-_CHECKSUM.size :]
