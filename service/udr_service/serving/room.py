"""Room for large answers, which are held from when they are written until their clients have read them."""

from udr_service.errors import BusyError
from udr_service.serving.shares import Count, Shares


class Room:
    """Bytes that may be held at once; a single answer may be larger. Used on the event loop only."""

    def __init__(self, limit: int, shares: Shares | None = None) -> None:
        self._limit, self._held, self._shares = limit, 0, shares or Shares()

    def hold(self, size: int) -> None:
        """Hold some bytes; raise a ``BusyError`` if there is no room."""
        held = self._shares.hold(Count.ANSWERS, self._held + size) - size
        if held and held + size > self._limit:
            self._shares.hold(Count.ANSWERS, self._held)
            raise BusyError(
                f"answers that are made, or that clients have yet to read, take {held} bytes, and there is no room for "
                f"{size} more; try again later, or ask for less"
            )
        self._held += size

    def free(self, size: int) -> None:
        """Hold them no more."""
        self._held -= size
        self._shares.hold(Count.ANSWERS, self._held)
