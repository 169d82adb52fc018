"""The folder of an exported encoder, in a cache or in an index version.

It contains::

    encoder.json            what it was made from, and how far it agrees with that; see ``Description``
    query/graph.onnx        from a query's tokens to its vector; the weights are beside it
    query/graph-int8.onnx   the same graph with weights and activations in 8 bits, if it was asked for
    query/tokenizer.json    the tokenizer, with truncation and padding
    demonstration/          likewise, if demonstrations have a tower of their own
    tokenizer/              the model's tokenizer as it came, which counts the tokens of prompts, if there is one
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from udr.errors import ModelError
from udr.files import canonical_json, check_format, read_bytes
from udr.search import Metric
from udr.types import Json, Role

Runtime = Literal["onnx", "onnx-int8", "openvino"]
"""What computes an export's vectors: ONNX Runtime in float32 or in 8 bits, or OpenVINO in a precision of its choice."""

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
EXACT, INT8 = RUNTIMES[:2]

DESCRIPTION = "encoder.json"
GRAPH, INT8_GRAPH = "graph.onnx", "graph-int8.onnx"
TOKENIZER = "tokenizer.json"
COUNTER = "tokenizer"

VERSION = 2
"""The version of these files; a change makes exports new."""

ROLES: tuple[Role, ...] = ("query", "demonstration")

_LARGEST = 1024 * 1024
_MOST_DIMENSIONS = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What an exported encoder was made from.

    Attributes:
        fingerprint: the hash of the model's weights, tokenizer, pooling and prompts, as ``Encoder`` has it.
        dimension: the dimension of its vectors.
        metric: how they are compared.
        prompts: the prefix of each role's texts.
        agreement: with torch on the probe texts, of the worst vector of both roles; see ``agreement``.
        version: ``VERSION`` of the udr that made it.
        int8_agreement: likewise of queries in 8 bits; None if there is no such graph.
    """

    fingerprint: str
    dimension: int
    metric: Metric
    prompts: Mapping[Role, str]
    agreement: float = math.nan
    version: int = VERSION
    int8_agreement: float | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the keys of the file; without the graph in 8 bits, those that udr wrote before there was one."""
        return {name: value for name, value in asdict(self).items() if name != "int8_agreement" or value is not None}

    def write(self, folder: Path) -> None:
        """Write it to an export's folder."""
        (folder / DESCRIPTION).write_bytes(canonical_json(self.to_json(), indent=1) + b"\n")

    @staticmethod
    def read(folder: Path) -> "Description":
        """Return the description in an export's folder, which may come from a stranger.

        Raises:
            ModelError: it is missing, invalid, or of another version.
        """
        path = folder / DESCRIPTION
        try:
            keys = json.loads(read_bytes(path, _LARGEST))
            check_format(keys["version"], VERSION, f"{folder}: the export", "udr index export-encoder", ModelError)
            description = Description(**keys)
            _check(description)
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path}: is not the description of an exported encoder") from error
        return description


def folder_of(folder: Path, role: Role) -> Path:
    """Return where an export has the graph and the tokenizer of a role."""
    own = folder / role
    return own if own.is_dir() else folder / ROLES[0]


def _check(description: Description) -> None:
    texts = [description.fingerprint, *(description.prompts[role] for role in ROLES)]
    int8 = 0.0 if description.int8_agreement is None else description.int8_agreement
    numbers = cast("tuple[object, ...]", (description.dimension, description.agreement, int8))
    valid = (
        all(isinstance(text, str) for text in texts)
        and len(description.prompts) == len(ROLES)
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
        and isinstance(description.dimension, int)
        and 0 < description.dimension <= _MOST_DIMENSIONS
        and description.metric in ("cosine", "dot")
    )
    if not valid:
        raise ValueError("a value has another type, or is out of range")
