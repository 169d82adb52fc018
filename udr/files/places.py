"""Paths of this machine, and URLs of stores."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from udr.errors import ArtifactError, ConfigError, MissingExtraError, StoreError, reason

# A Path has one slash where the URL had two.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}([^/].*)")
_SERVICES = frozenset({"http", "https"})
DISKS = frozenset({"file", "local"})
"""The protocols of folders of this machine, such as one that machines share, in place of a store."""


def expanded(place: str | Path) -> Path:
    """Return a path with a home folder in place of ``~``; as it is, so that it does not exist, if there is none."""
    try:
        return Path(place).expanduser()
    except RuntimeError:
        return Path(place)


def remote_url(place: str | Path) -> str | None:
    """Return the URL of a place on a remote store, without a slash at its end; None if it is a path."""
    match = _URL.fullmatch(str(place))
    if match is None or match[1] in _SERVICES:
        return None
    return f"{match[1]}://{'/' if match[1] in DISKS else ''}{match[2].rstrip('/')}"


def refuse_remote(place: Path) -> None:
    """Raise a ``ConfigError`` if a place is on a remote store, where a command does not work."""
    if (url := remote_url(place)) is not None:
        raise ConfigError(f"{url} is on a remote store, where this command does not work; give a path of this machine")


def refuse_existing(path: Path) -> None:
    """Raise a ``ConfigError`` if a command cannot write a new file: it exists, or is on a remote store."""
    refuse_remote(path)
    if path.exists():
        raise ConfigError(f"{path} exists; name another file, or remove it")


@contextmanager
def store_errors(place: str) -> Iterator[None]:
    """Raise what a store's library raises as a ``StoreError`` that names the place.

    A missing file is another ``ArtifactError``.
    """
    try:
        yield
    except (ArtifactError, MissingExtraError):
        raise
    except FileNotFoundError as error:
        raise ArtifactError(f"{place}: no such file") from error
    except Exception as error:
        # Each library has errors of its own.
        raise StoreError(f"{place}: the store does not answer as it should: {reason(error)[:300]}") from error
