"""An encoder that is kept as a low-rank difference to another one, and merged with it when it is first located.

A folder of one holds ``difference.json``: the base's name and fingerprint, the rank, the weight of the difference, and
the wording that the encoder was trained with; ``difference.safetensors``: for each matrix that differs, ``<name>.down``
[rank, in] and ``<name>.up`` [out, rank] in float16; and a card. The merged matrix is base + weight * up @ down; a
weight below 1 averages the trained weights with the base's. All else is the base's: also the window, of which
a training may have read less.

The products are summed rank by rank in float64, without a matrix library, so that all machines get the same bytes, and
with them the same fingerprint, by which indexes know their encoder.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udr.errors import ModelError, optional_import, reason
from udr.files import canonical_json, first_to_finish, let_others_read, read_bytes
from udr.models.hub.names import DIFFERENCE
from udr.types import Json

_FACTORS = "difference.safetensors"
MOST_BYTES = 12_000_000
"""The most bytes of a difference: it is part of a wheel."""

_WEIGHTS, _RECORD = "model.safetensors", "udr.json"
_MOST_JSON = 65_536
_DOWN, _UP = ".down", ".up"

Weights = dict[str, NDArray[Any]]
Locate = Callable[[str], Path]
Fingerprint = Callable[[Path], str]
Settings = Callable[[str], Mapping[str, Json]]


def merged(folder: Path, cache: Path, locate: Locate, fingerprint: Fingerprint) -> Path:
    """Return the folder of the encoder that a difference makes of its base; the first call makes it, in seconds.

    Args:
        folder: that of the difference.
        cache: the folder of merged models.
        locate: returns the folder of the base by its name.
        fingerprint: returns a model's.

    Raises:
        ModelError: the base is not installed or another one, the files do not fit it, or the cache cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    keys = _read_keys(folder)
    made = cache / "merged" / fingerprint(folder)
    if made.is_dir():
        return made
    base = locate(keys["base"])
    if (found := fingerprint(base)) != keys["base_fingerprint"]:
        expected = f"is a difference to {keys['base']!r} with fingerprint {keys['base_fingerprint']}"
        raise ModelError(f"{folder}: {expected}, but the installed one has {found}; install the version that it names")
    weights, factors = _read(base / _WEIGHTS), _read(folder / _FACTORS)
    for name in sorted({key.removesuffix(_DOWN).removesuffix(_UP) for key in factors}):
        matrix, down, up = (
            of.get(key) for of, key in ((weights, name), (factors, name + _DOWN), (factors, name + _UP))
        )
        if matrix is None or down is None or up is None or (len(up), *down.shape[1:]) != matrix.shape:
            raise ModelError(f"{folder / _FACTORS}: {name!r} does not fit the base's matrix; make the difference again")
        weights[name] = _sum(matrix, up, down, keys["weight"])
    try:
        with first_to_finish(made) as staging:
            shutil.copytree(base, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md", ".*"))
            # Not ignored above: further modules have files of the same name.
            (staging / _WEIGHTS).unlink()
            _write(staging / _WEIGHTS, weights)
            (staging / _RECORD).write_bytes(canonical_json({"encoder_wording": keys["encoder_wording"]}) + b"\n")
            let_others_read(staging)
    except OSError as error:
        remedy = "name a folder that can be written in the variable UDR_CACHE"
        raise ModelError(f"{folder}: cannot be merged with its base in {made}: {reason(error)}; {remedy}") from error
    return made


def write_difference(
    folder: Path,
    base: str,
    trained: Path,
    *,
    rank: int,
    weight: float,
    locate: Locate,
    fingerprint: Fingerprint,
    settings: Settings,
) -> int:
    """Write the difference of a trained encoder to its base, and return its bytes, without a card.

    Args:
        folder: a new or empty folder.
        base: the base's name.
        trained: the folder of the trained encoder, whose matrices differ from the base's by at most this rank.
        rank: that of the adapters.
        weight: how much the difference counts, above 0 and at most 1.
        locate: returns the folder of the base by its name.
        fingerprint: returns a model's.
        settings: returns those of an encoder by its name; see ``SentenceEncoder.settings``.

    Raises:
        ModelError: the trained encoder has other settings than the base, other weights than matrices differ, a
            difference has a higher rank, or it takes too many bytes.
    """
    origin = locate(base)
    own = settings(str(trained))
    for name, expected in settings(base).items():
        if own[name] != expected:
            raise ModelError(
                f"{trained}: has other {name} than {base!r}, and a difference holds matrices alone; train with those "
                f"of the base (for example train.pooling = 'model'): found {own[name]}, expected {expected}"
            )
    before, after = _read(origin / _WEIGHTS), _read(trained / _WEIGHTS)
    factors: Weights = {}
    for name, matrix in before.items():
        # Positions that a release of Transformers saves and the next does not are no weights.
        change = after[name].astype(np.float64) - matrix if name in after else np.zeros(1)
        if not change.any():
            continue
        if change.ndim != 2 or min(change.shape) < rank:
            raise ModelError(
                f"{trained}: {name!r} differs from the base's and is no matrix; train with train.lora_rank"
            )
        left, sizes, right = np.linalg.svd(change, full_matrices=False)
        if sizes[rank:].sum() > 1e-3 * sizes.sum():
            raise ModelError(f"{trained}: {name!r} differs from the base's by a rank above {rank}")
        roots = np.sqrt(sizes[:rank])
        factors[name + _DOWN] = (roots[:, None] * right[:rank]).astype(np.float16)
        factors[name + _UP] = (left[:, :rank] * roots).astype(np.float16)
    if not factors:
        raise ModelError(f"{trained}: has the weights of {base!r}; nothing was trained")
    record = json.loads((trained / _RECORD).read_bytes())
    keys: dict[str, Json] = {
        "base": base,
        "base_fingerprint": fingerprint(origin),
        "encoder_wording": record["encoder_wording"],
        "rank": rank,
        "weight": weight,
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / _FACTORS, factors)
    (folder / DIFFERENCE).write_bytes(canonical_json(keys, indent=1) + b"\n")
    let_others_read(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > MOST_BYTES:
        raise ModelError(f"{folder}: has {size} bytes, of at most {MOST_BYTES}; train with a smaller train.lora_rank")
    return size


def _sum(matrix: NDArray[Any], up: NDArray[Any], down: NDArray[Any], weight: float) -> NDArray[np.float32]:
    total = matrix.astype(np.float64)
    for column, row in zip(up.T.astype(np.float64), down.astype(np.float64), strict=True):
        total += weight * column[:, None] * row[None, :]
    if not np.isfinite(total).all():
        raise ModelError("a merged matrix is not finite; make the difference again")
    return total.astype(np.float32)


def _read_keys(folder: Path) -> Mapping[str, Any]:
    path = folder / DIFFERENCE
    try:
        keys = dict(json.loads(read_bytes(path, _MOST_JSON)))
        texts = all(isinstance(keys[name], str) for name in ("base", "base_fingerprint", "encoder_wording"))
        if not texts or not 0 < float(keys["weight"]) <= 1:
            raise ValueError("a value is of another type, or out of range")
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: does not describe a difference: {reason(error)}") from error
    return keys


def _read(path: Path) -> Weights:
    with optional_import("safetensors", "index"):
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from error


def _write(path: Path, weights: Weights) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(weights[name]) for name in sorted(weights)}, path, metadata={"format": "pt"})
