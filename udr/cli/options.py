"""The arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

IndexDir = Annotated[Path, Argument(help="The index directory.", metavar="DIR", show_default=False)]
"""The argument of every command that reads an index directory."""

AsJson = Annotated[bool, Option("--json", help="Print JSON.")]
"""An option of every command whose result programs read."""

Fp16 = Annotated[bool, Option("--fp16", help="On a GPU, keep flat partitions as float16, in half the memory.")]
"""An option of every command that searches on a device."""

Device = Annotated[
    str | None,
    Option(
        help="The device for the encoder and the search: cpu, cuda, ...",
        show_default="a GPU if there is one, else cpu",
    ),
]
"""An option of every command that encodes queries and searches."""

EngineName = Annotated[
    str | None,
    Option(
        "--engine",
        help="What encodes queries: onnx, onnx-int8, openvino, torch, torch-bf16 or torch-fp16.",
        show_default="the best for the device",
    ),
]
"""An option of every command that encodes queries."""

AllowHub = Annotated[
    bool, Option("--allow-hub", help="Load the encoder from the Hugging Face hub if the index names it there.")
]
"""An option of every command that loads the encoder of an index."""
