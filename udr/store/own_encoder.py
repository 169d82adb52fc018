"""The encoder of an index: its export in the version, or the model that it names, compared by fingerprint."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from udr.errors import ArtifactError, ConfigError, MissingExtraError, ModelError
from udr.installation import install_extra
from udr.models import (
    EXACT,
    INT8,
    PACKAGE,
    RUNTIMES,
    Runtime,
    SentenceEncoder,
    encodes_on_cpu,
    fingerprint,
    is_hub_name,
    locate,
    num_threads,
)
from udr.store.version import ENCODER, IndexVersion

if TYPE_CHECKING:
    from udr.models import Encoder, OnnxEncoder

_LOG = logging.getLogger(__name__)

_PICKLES = frozenset((".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"))
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def exported_encoder(
    version: IndexVersion, device: str | None = None, engine: str | None = None
) -> "OnnxEncoder | None":
    """Return the encoder that a version contains as an export, which opens in a fraction of a second, without torch.

    Args:
        version: the version.
        device: where to encode: ``cpu``, ``cuda``, ...; None is the best available.
        engine: one of ``udr.models.Engine``; None is the one for the device.

    Returns:
        None if the version has no export, or another device or engine is wanted; and, with a warning, if onnxruntime is
        not installed or cannot open it.

    Raises:
        ArtifactError: the export is of another encoder than the one that built the index.
        ConfigError: the export has no graph for the engine.
        MissingExtraError: openvino is wanted, and not installed.
    """
    wanted = device is None and engine in RUNTIMES
    if not version.has_export or engine not in (None, *RUNTIMES) or not (wanted or encodes_on_cpu(device)):
        return None
    folder = version.path / ENCODER
    if engine == INT8 and not version.has_int8:
        remedy = f"run: udr index export-encoder {version.root} --engine {INT8}"
        raise ConfigError(f"{version.path}: carries its encoder for engine {EXACT!r} alone, not for {INT8!r}; {remedy}")
    if find_spec("onnxruntime") is None:
        _LOG.warning("%s: not used, since onnxruntime is not installed; run: %s", folder, install_extra("onnx"))
        return None
    # onnxruntime is an extra.
    from udr.models import OnnxEncoder

    try:
        runtime = EXACT if engine is None else cast("Runtime", str(engine))
        encoder = OnnxEncoder.open(folder, version.manifest.encoder.name, num_threads(), runtime)
    except ModelError as error:
        _LOG.warning("%s; loading the model that was exported", error)
        return None
    version.manifest.encoder.check(encoder)
    return encoder


def encoder_name(version: IndexVersion, *, allow_hub: bool = False) -> str:
    """Return the name to load an index's encoder by.

    A copy in the index and ``package:NAME`` may always be loaded. A name on the Hugging Face hub needs ``allow_hub``,
    since the maker of the index chose it. A path outside the index is never loaded.

    Raises:
        ArtifactError: the name may not be loaded, or means an encoder that did not build the index.
        ModelError: there is no such model, or the one in the index has its weights as a pickle.
    """
    if refusal := _refusal(version, allow_hub):
        raise ArtifactError(refusal)
    name = version.model
    path = locate(name)
    if version.has_model:
        refuse_pickles(path)
    stamp, found = version.manifest.encoder, fingerprint(path)
    if found != stamp.fingerprint:
        raise ArtifactError(
            f"the index was built by encoder {stamp.name!r} with fingerprint {stamp.fingerprint}, but {name!r} has "
            f"fingerprint {found}; use the encoder that built it, or run: udr index build"
        )
    return name


def _refusal(version: IndexVersion, allow_hub: bool) -> str:
    """Return why the name of a version's encoder may not be loaded; empty if it may."""
    name = version.model
    if version.has_model or name.startswith(PACKAGE):
        return ""
    if not is_hub_name(name):
        remedy = "build the index again, or open it in Python with encoder="
        return f"{version.path}: names its encoder by the path {name!r}, outside the index; {remedy}"
    remedy = "if you trust the index and that model, pass --allow-hub (in Python, allow_hub=True)"
    return "" if allow_hub else f"{version.path}: names its encoder on the Hugging Face hub, {name!r}; {remedy}"


def named_encoder(
    version: IndexVersion, device: str | None = None, *, allow_hub: bool = False, replaced: bool = False
) -> "Encoder":
    """Load the encoder that a version names, or the version's export of it, with a warning.

    The export stands in for a model that is not installed or may not be loaded.

    Args:
        version: the version.
        device: see ``SentenceEncoder.load``; the export encodes on the CPU alone.
        allow_hub: see ``encoder_name``.
        replaced: let the export stand in, too, if the name means another model by now, which did not build the index.

    Raises:
        ArtifactError: the name means an encoder that did not build the index, or may not be loaded and there is no
            export.
        ModelError: there is no such model, and no export.
        MissingExtraError: sentence-transformers is not installed, and there is no export.
    """
    try:
        encoder = SentenceEncoder.load(encoder_name(version, allow_hub=allow_hub), device=device)
    except (ArtifactError, MissingExtraError, ModelError) as error:
        other = isinstance(error, ArtifactError) and not _refusal(version, allow_hub) and not replaced
        # The export is the same encoder, but for the last bits.
        if other or (exported := exported_encoder(version, device or "cpu")) is None:
            raise
        _LOG.warning("%s; the export of the encoder in the index is used", error)
        return exported
    # A copy in the version goes by the name of the original.
    encoder.name = version.manifest.encoder.name
    return encoder


def refuse_pickles(model: Path) -> None:
    """Raise ``ModelError`` if a part of a model in a folder has its weights only as a pickle, which can run code."""
    for path in sorted(model.rglob("*")):
        if path.suffix in _PICKLES and not any((path.parent / name).is_file() for name in _WEIGHTS):
            remedy = f"save them as {_WEIGHTS[0]} (save_pretrained does) and build the index again"
            raise ModelError(f"{path}: holds weights as a pickle, which can run code, so no index has it; {remedy}")
