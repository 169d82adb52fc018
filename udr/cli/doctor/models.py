"""Checks of models: those at hand, and where others would come from."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from udr.cli.doctor.findings import Finding, note, ok, problem
from udr.cli.doctor.machine import nearest_existing
from udr.errors import ModelError
from udr.installation import install
from udr.models import BASE_ENCODER, DEFAULT_ENCODER, DEFAULT_LM, PACKAGE, cache_folder, locate


def check_models() -> Iterator[Finding]:
    """Look for the default models, and for those of the Hugging Face hub in its cache."""
    # The default encoder is a difference to the base, which is a package of its own.
    needed = (DEFAULT_ENCODER, BASE_ENCODER, "--model", "encoder"), (DEFAULT_LM, DEFAULT_LM, "--lm", "language model")
    for name, carried, option, use in needed:
        try:
            locate(carried)
            yield ok("models", f"{name}, the default {use}")
        except ModelError:
            package = carried.removeprefix(PACKAGE).replace("_", "-")
            yield note(
                "models",
                f"no {name}, the default {use}",
                f"{install('--no-deps', package)}; or name another by {option}",
            )
    hub = _hub_folder()
    found = [*hub.glob("models--*")] if os.path.isdir(hub) else []
    cached = sorted(path.name.removeprefix("models--").replace("--", "/") for path in found)
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    yield ok(
        "models", f"{len(cached)} from the Hugging Face hub in {hub}{': ' if cached else ''}{', '.join(cached[:6])}"
    )
    if offline:
        yield note("models", "HF_HUB_OFFLINE is set, so no other model is downloaded", "unset it to download one")


def check_cache() -> Iterator[Finding]:
    """Look at the folder where converted and exported models are kept."""
    folder = cache_folder()
    nearest = nearest_existing(folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        yield problem("cache", f"{folder} cannot be written", "name another folder in the variable UDR_CACHE")
        return
    # Outcomes of a service, and what a run has not uploaded yet, are nowhere else.
    kept = "it may be deleted while nothing uses it, but for `runs` and `indexes/*/live`"
    yield ok("cache", f"{folder}, {_bytes_in(folder) / 1e9:.1f} GB; {kept}")


def _bytes_in(folder: Path) -> int:
    """Return the size of the files in a folder, without those that may not be read."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(parent, name).stat().st_size
    return size


def _hub_folder() -> Path:
    """Return the hub's cache, as huggingface_hub finds it."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
