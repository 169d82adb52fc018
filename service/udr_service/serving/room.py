"""Room for large answers, which are held from when they are written until their clients have read them."""

from udr_service.errors import BusyError


class Room:
    """Bytes that may be held at once; a single answer may be larger. Used on the event loop only."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0

    def hold(self, size: int) -> None:
        """Hold some bytes; raise a ``BusyError`` if there is no room."""
        if self._held and self._held + size > self._limit:
            raise BusyError(
                f"clients have yet to read {self._held} bytes of answers, and there is no room for {size} more; try "
                "again later, or ask for less"
            )
        self._held += size

    def free(self, size: int) -> None:
        """Hold them no more."""
        self._held -= size
