"""The version that answers, and how long earlier ones stay open after a switch."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from udr.errors import ArtifactError
from udr_service.errors import IndexDamagedError, NotReadyError
from udr_service.serving.versions.active_version import ActiveVersion

_LOG = logging.getLogger(__name__)


class Current:
    """The version that answers. Each request leases one version from beginning to end.

    Used on the event loop only, so nothing is locked.

    Attributes:
        draining: the service is about to stop; it still answers, but is not ready.
        damage: what is wrong with the files of the version that answers; None if nothing is known.
    """

    def __init__(self) -> None:
        self._active: ActiveVersion | None = None
        self._leases: Counter[ActiveVersion] = Counter()
        self.draining = False
        self.damage: str | None = None
        self._logged: ActiveVersion | None = None
        self._unwritten = ""

    @property
    def version(self) -> str | None:
        """The name of the version that answers; None before the first."""
        return None if self._active is None else self._active.version

    @property
    def fields_read(self) -> Mapping[str, frozenset[str]]:
        """Which fields of each task the version that answers has read for filters; see ``Retriever.fields_read``."""
        return {} if self._active is None else self._active.retriever.fields_read

    @property
    def alone(self) -> bool:
        """Whether no earlier version is still in use."""
        return all(leased is self._active for leased in self._leases)

    @contextmanager
    def lease(self) -> Iterator[ActiveVersion]:
        """Keep the version that answers now open until the block ends, whatever ``switch`` does meanwhile.

        Raises:
            NotReadyError: no version is open yet.
        """
        if (active := self._active) is None:
            raise NotReadyError("the service is loading its index; try again later")
        self._leases[active] += 1
        try:
            yield active
        finally:
            self._leases[active] -= 1
            self._close_unused(active)

    @contextmanager
    def answering(self) -> Iterator[ActiveVersion]:
        """Lease the version that answers now, for a request.

        Raises:
            NotReadyError: no version is open yet.
            IndexDamagedError: a file is damaged, or was found to be so by the request.
        """
        with self.lease() as active:
            if self.damage is not None:
                raise IndexDamagedError(f"the index is damaged: {self.damage}")
            try:
                yield active
            except ArtifactError as error:
                if self._logged is not active:
                    self._logged = active
                    _LOG.error("version %s cannot be read: %s", active.version, error)
                raise IndexDamagedError("a file of the index cannot be read; the service's log says which") from error

    def wrote(self, problem: str = "") -> None:
        """Log why a write could not be stored, once until one is or another problem arises."""
        if problem and problem != self._unwritten:
            _LOG.error("a write could not be stored: %s", problem)
        self._unwritten = problem

    def is_active(self, version: ActiveVersion) -> bool:
        """Return whether this version answers now."""
        return version is self._active

    def switch(self, active: ActiveVersion | None) -> None:
        """Answer from another version, or from none; the previous one closes after its last request."""
        previous, self._active = self._active, active
        self.damage = None
        if previous is not None:
            self._close_unused(previous)

    def _close_unused(self, version: ActiveVersion) -> None:
        if self._leases[version] == 0:
            del self._leases[version]
            if version is not self._active and not version.lent:
                version.retriever.close()
