"""What the engine of queries changes for a language model: accuracy with each engine's demonstrations, beside float32.

    python benchmarks/engines_accuracy.py TASKS --out FOLDER [--tasks sst2,trec,snli] [--engines onnx,onnx-int8,...]

The same encoder, pool and test rows for all engines: demonstrations are encoded in float32, queries by the engine, as
in a service. SmolLM2 answers with 4 shots. FOLDER gets the answers, from which an interrupted run resumes, and the
reports of ``udr evaluate``, with paired intervals of the gains over float32.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from measuring import parser

from udr.cli import main as udr
from udr.models import BASE_ENCODER, DEFAULT_LM, Encoder, Engine, load_encoder, locate_encoder
from udr.search import Metric, Vectors
from udr_training.evaluation import config
from udr_training.evaluation.retrievers import sources

ENGINES = (Engine.ONNX, Engine.ONNX_INT8, Engine.OPENVINO)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("folder", type=Path, metavar="TASKS")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--tasks", default="sst2,trec,snli")
    options.add_argument("--engines", default=",".join(ENGINES))
    options.add_argument("--model", default=BASE_ENCODER)
    options.add_argument("--lm", default=DEFAULT_LM)
    options.add_argument("--pool", type=int, default=800)
    options.add_argument("--rows", type=int, default=300)
    options.add_argument("--dtype", default="float32")
    arguments = options.parse_args()
    # An evaluation takes retrievers by name, and looks first whether there is such a model; here a name is an engine.
    sources.SentenceEncoder = _Engines(arguments.model)  # type: ignore[misc, assignment]
    config.locate_encoder = lambda engine: locate_encoder(arguments.model)
    sizes = ["--shots", "4", "--pool", str(arguments.pool), "--limit", str(arguments.rows)]
    compared = ["--retrievers", arguments.engines, "--baseline", arguments.engines.split(",")[0]]
    models = ["--lm", arguments.lm, "--dtype", arguments.dtype]
    start = ["evaluate", str(arguments.folder), "--tasks", arguments.tasks, "--output", str(arguments.out)]
    sys.exit(udr([*start, *sizes, *compared, *models]))


class _Engines:
    """In place of the class of encoders: loads one model by an engine's name."""

    def __init__(self, model: str) -> None:
        self._model = model

    def load(self, engine: str) -> Encoder:
        return _ByEngine(load_encoder(self._model, "cpu", engine), engine)


class _ByEngine:
    """An encoder with a fingerprint of its own for each engine, since answers are kept by it."""

    def __init__(self, encoder: Encoder, engine: str) -> None:
        self._encoder, self.name, self.fingerprint = encoder, engine, f"{encoder.fingerprint}-{engine}"
        self.dimension = encoder.dimension
        self.metric: Metric = encoder.metric

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._encoder.encode_queries(texts)

    def encode_demonstrations(self, texts: Sequence[str]) -> Vectors:
        return self._encoder.encode_demonstrations(texts)


if __name__ == "__main__":
    main()
