"""How this copy of udr was installed, and so which command adds an extra to it."""

import json
import shlex
import shutil
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DISTRIBUTION = "udr-icl"
"""Its name among packages."""


def install_extra(extra: str) -> str:
    """Return the shell command that adds an extra to this copy, wherever it was installed from."""
    own = _own()
    address = json.loads((own and own.read_text("direct_url.json")) or "{}")
    return install(*requirement(extra, address, Path(__file__).parents[1]))


def install(*requirements: str) -> str:
    """Return the shell command that installs packages where this copy runs."""
    return shlex.join([*_installer(), *requirements])


def requirement(extra: str, address: dict[str, Any], sources: Path) -> tuple[str, ...]:
    """Return what an installer is told in order to add an extra.

    Args:
        extra: its name.
        address: where the installed copy is from: the content of ``direct_url.json``, empty if from a package index.
        sources: the folder that holds the package's folder; a checkout has a ``pyproject.toml`` there.
    """
    url = address.get("url", "")
    if "vcs_info" in address:
        vcs = address["vcs_info"]
        return (f"{DISTRIBUTION}[{extra}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}",)
    if not address and (sources / "pyproject.toml").is_file():
        return ("--editable", f"{sources}[{extra}]")
    # Only now: urllib.request imports half of the network, and every command imports this file.
    from urllib.request import url2pathname

    path = Path(url2pathname(urlsplit(url).path))
    if url.startswith("file:") and path.exists():
        editable = ("--editable",) if address.get("dir_info", {}).get("editable") else ()
        return (*editable, f"{path}[{extra}]")
    return (f"{DISTRIBUTION}[{extra}]{f' @ {url}' if url.startswith('http') else ''}",)


def _own() -> Distribution | None:
    try:
        return distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return None


def _installer() -> list[str]:
    """Return the command that installs packages into this environment."""
    if (Path(sys.prefix) / "uv-receipt.toml").is_file():
        return ["uv", "tool", "install"]
    if Path(sys.prefix).parent.parts[-2:] == ("pipx", "venvs"):
        return ["pipx", "install", "--force"]
    if find_spec("pip") is None and shutil.which("uv"):
        return ["uv", "pip", "install", "--python", sys.executable]
    # ``pip`` alone is that of the environment which the shell has activated.
    pip = shutil.which("pip")
    activated = pip is not None and Path(pip).parent == Path(sys.executable).parent
    return ["pip", "install"] if activated else [sys.executable, "-m", "pip", "install"]
