"""Paths of this machine, and URLs of stores."""

import re
from pathlib import Path

from udr.errors import ConfigError

# A Path has one slash where the URL had two.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}([^/].*)")
_SERVICES = frozenset({"http", "https"})
DISKS = frozenset({"file", "local"})
"""The protocols of folders of this machine, such as one that machines share, in place of a store."""


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
