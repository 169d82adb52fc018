"""Checks of Python and of the installed packages: versions, extras, and what clashes."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version

from packaging.requirements import Requirement

from udr.cli.doctor.findings import Finding, note, ok, problem
from udr.installation import DISTRIBUTION, install, install_extra

_ALIKE = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
"""Packages that install the same module; with two of them, it is a mixture of both."""

_NOT_FOR_USERS = ("all", "dev", "docs")


def check_python() -> Iterator[Finding]:
    """Look at the interpreter."""
    yield ok("Python", f"{platform.python_version()} in {sys.executable}, {platform.system()} on {platform.machine()}")


def check_udr() -> Iterator[Finding]:
    """Look at udr, and at which of its extras are complete."""
    try:
        own = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        yield problem("udr", "its packages are on the path, but not installed", install("--editable", "."))
        return
    yield ok("udr", f"{own.version}; an extra is added by: {install_extra('EXTRA')}")
    extras = [name for name in own.metadata.get_all("Provides-Extra") or [] if name not in _NOT_FOR_USERS]
    complete = [name for name in extras if not list(_lacking(DISTRIBUTION, name, set()))]
    yield ok("extras", f"complete: {', '.join(complete) or 'none'}")
    for name in ("index", "service", "training"):
        if name not in complete:
            lacking = ", ".join(sorted(set(_lacking(DISTRIBUTION, name, set()))))
            yield note("extras", f"{name}: without {lacking}", f"if you need it: {install_extra(name)}")


def check_versions() -> Iterator[Finding]:
    """Look for installed packages that others refuse, and for packages that install the same module."""
    clashes = sorted(set(_clashes(DISTRIBUTION, set())))
    for found, remedy in clashes:
        yield problem("versions", found, remedy)
    twice = [name for name in _ALIKE if _installed(name)]
    if len(twice) > 1:
        yield problem(
            "versions",
            f"{' and '.join(twice)} both install the module faiss",
            f"remove all of them, then add one: {install_extra('cpu')}",
        )
    if not clashes and len(twice) < 2:
        yield ok("versions", "no package refuses another's version")


def _requirements(name: str, extra: str) -> Iterator[Requirement]:
    """Yield what an installed package needs here, with one extra or, if empty, without."""
    for text in requires(name) or []:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            yield needed


def _lacking(name: str, extra: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    """Yield the packages of an extra that are not installed."""
    if (name, extra) in seen:
        return
    seen.add((name, extra))
    for needed in _requirements(name, extra):
        if not _installed(needed.name):
            yield needed.name
            continue
        for more in needed.extras:
            yield from _lacking(needed.name, more, seen)


def _clashes(name: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the versions of the packages that one needs, and the remedy."""
    if name in seen or not _installed(name):
        return
    seen.add(name)
    extras = ["", *(distribution(name).metadata.get_all("Provides-Extra") or [])] if name == DISTRIBUTION else [""]
    for needed in (needed for extra in extras for needed in _requirements(name, extra)):
        have = _installed(needed.name)
        if have and not needed.specifier.contains(have, prereleases=True):
            wanted = f"{needed.name}{needed.specifier}"
            yield f"{name} needs {wanted}; found {needed.name} {have}", install(wanted)
        yield from _clashes(needed.name, seen)


def _installed(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
