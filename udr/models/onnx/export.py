"""Exports an encoder to ONNX, by torch's exporter: a graph and a tokenizer for each role."""

import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from udr.errors import MissingExtraError, ModelError, reason
from udr.files import first_to_finish
from udr.models.encoder import SentenceEncoder
from udr.models.hub import PACKAGE, cache_folder
from udr.models.onnx.description import (
    COUNTER,
    EXACT,
    GRAPH,
    INT8,
    INT8_GRAPH,
    ROLES,
    TOKENIZER,
    VERSION,
    Description,
    Runtime,
)
from udr.models.onnx.encoder import OnnxEncoder
from udr.models.query_tokenizer import QueryTokenizer
from udr.types import Role

_LOG = logging.getLogger(__name__)

_EXPORTER = ("onnx", "onnxscript")
_COUNTER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
)


def onnx_encoder(encoder: SentenceEncoder, num_threads: int, runtime: Runtime = EXACT) -> OnnxEncoder:
    """Return an encoder as an export, just compared with torch; the first call exports it; see ``exported``.

    Raises:
        ModelError: the model cannot be exported, or the export disagrees with torch.
        MissingExtraError: the exporter is not installed.
    """
    # A new export is compared before it gets its place.
    compared = not _folder(encoder, runtime).is_dir()
    folder = exported(encoder, runtime)
    try:
        opened = OnnxEncoder.open(folder, encoder.name, num_threads, runtime)
    except ModelError as error:
        raise ModelError(f"{error}; delete {folder} to export it again") from error
    if not compared:
        opened.agreement_with(encoder)
    return opened


def exported(encoder: SentenceEncoder, runtime: Runtime = EXACT) -> Path:
    """Return the folder of an encoder's export; the first call makes it in ``cache_folder()``, which takes seconds.

    The export for ``onnx-int8`` has the graph in float32, too.

    Raises:
        ModelError: the model cannot be exported, or the export disagrees with torch.
        MissingExtraError: the exporter is not installed.
    """
    folder = _folder(encoder, runtime)
    if runtime == INT8:
        return _quantised(encoder, exported(encoder), folder)
    if folder.is_dir():
        return folder
    for package in _EXPORTER:
        if find_spec(package) is None:
            raise MissingExtraError(f"{package}, which exports encoders,", "index")
    if encoder.model.device.type != "cpu" or encoder.dtype != "float32":
        encoder = SentenceEncoder.load(encoder.name, "cpu")
    tokenizers = {role: tokenizer for role in ROLES if (tokenizer := encoder.direct_tokenizer(role)) is not None}
    if len(tokenizers) < len(ROLES):
        problem = "preprocesses texts beyond its tokenizer, and cannot be exported"
        raise ModelError(f"model {encoder.name!r} {problem}")
    if not encoder.pools_prompts and any(tokenizer.prompt for tokenizer in tokenizers.values()):
        # A graph knows no prompts: it is given the tokens of prompt and text.
        raise ModelError(f"model {encoder.name!r} leaves its prompt out of the pooling, and cannot be exported")
    _LOG.info("exporting %s to ONNX, once, into %s...", encoder.name.removeprefix(PACKAGE), folder)
    try:
        with first_to_finish(folder) as staging:
            _write(encoder, tokenizers, staging)
    except ModelError:
        raise
    except Exception as error:
        # Exporters raise many kinds of errors; the disk may be full or read-only.
        cause = reason(error.__cause__ or error)
        raise ModelError(f"model {encoder.name!r} cannot be exported to {folder}: {cause}") from error
    return folder


def _folder(encoder: SentenceEncoder, runtime: Runtime) -> Path:
    """Return where an encoder's export is kept, or will be."""
    return cache_folder() / "onnx" / f"{encoder.fingerprint}-{VERSION}{'-int8' if runtime == INT8 else ''}"


def _quantised(encoder: SentenceEncoder, plain: Path, folder: Path) -> Path:
    """Return the folder with an export and its graph of queries in 8 bits."""
    if folder.is_dir():
        return folder
    try:
        # It needs the exporter's packages.
        from udr.models.onnx.quantization import quantise

        with first_to_finish(folder) as staging:
            shutil.copytree(plain, staging, dirs_exist_ok=True)
            quantise(staging / ROLES[0] / GRAPH, staging / ROLES[0] / INT8_GRAPH)
            description = Description.read(staging)
            agreement = OnnxEncoder(staging, encoder.name, description, 1, INT8).agreement_with(encoder)
            replace(description, int8_agreement=agreement).write(staging)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"model {encoder.name!r} cannot be quantised in {folder}: {reason(error)}") from error
    return folder


def _write(encoder: SentenceEncoder, tokenizers: Mapping[Role, QueryTokenizer], folder: Path) -> None:
    for role in ROLES if encoder.has_two_towers else ROLES[:1]:
        (folder / role).mkdir()
        _export(encoder, role, tokenizers[role], folder / role / GRAPH)
        tokenizers[role].save(folder / role / TOKENIZER)
    if (encoder.path / _COUNTER_FILES[0]).is_file():
        (folder / COUNTER).mkdir()
        for name in _COUNTER_FILES:
            if (encoder.path / name).is_file():
                shutil.copyfile(encoder.path / name, folder / COUNTER / name)
    description = Description(
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        metric=encoder.metric,
        prompts={role: tokenizer.prompt for role, tokenizer in tokenizers.items()},
    )
    agreement = OnnxEncoder(folder, encoder.name, description, 1).agreement_with(encoder)
    replace(description, agreement=agreement).write(folder)


class _Chain(torch.nn.Module):
    """The path from a text's tokens to its vector: transformer, pooling, further modules, normalisation."""

    def __init__(self, encoder: SentenceEncoder, role: Role, tokenizer: QueryTokenizer) -> None:
        super().__init__()
        self.model, self._embed, self._role, self._tokenizer = encoder.model, encoder.embed, role, tokenizer

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._embed(features, self._tokenizer, self._role)


def _export(encoder: SentenceEncoder, role: Role, tokenizer: QueryTokenizer, path: Path) -> None:
    # An extra, whose absence has been reported by now.
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    # Two texts of different lengths, so that batch size and padding do not become constants of the graph.
    batch = tokenizer.batch(["one text", "and a longer one"])
    sample = {name: torch.from_numpy(rows) for name, rows in batch.items()}
    dynamic = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in sample}
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Chain(encoder, role, tokenizer).eval(),
            kwargs={"features": sample},
            dynamo=True,
            dynamic_shapes={"features": dynamic},
            input_names=list(sample),
            output_names=["vectors"],
            verbose=False,
        )
        assert program is not None
        # It holds the exporter's call stacks, and so the paths of this machine.
        ClearMetadataAndDocStringPass()(program.model)
        program.save(path, external_data=True)


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide the exporters' log messages and warnings."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
