"""The imports of our packages, read from the source: layers, adapters, public names, and what stays light."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from udr.errors import MissingExtraError

REPOSITORY = Path(__file__).parents[1]
PACKAGES = {"udr": ".", "udr_index": "index", "udr_service": "service", "udr_training": "training"}

# The modules that may import each engine, or packages with a dot at the end.
ADAPTERS = {
    "accelerate": "udr_training.trainer.sharing.shared_training",
    "chardet": "udr_index.preparation.dialect",
    "datasets": "udr_training.",
    "dspy": "udr.integrations.dspy",
    "faiss": "udr.search.faiss_cpu udr.search.faiss_gpu",
    "fastapi": "udr_service.",
    "fsspec": "udr.files.remote",
    "gguf": "udr_training.",
    "haystack": "udr.integrations.haystack",
    "httptools": "udr_service.server.protocol",
    "httpx2": "udr.client. udr_service.api.gateway.upstream udr_training.answering.server.http",
    "huggingface_hub": "udr.models.hub.names",
    "jinja2": "udr_training.evaluation.report.page",
    "langchain_core": "udr.integrations.langchain",
    "llama_index": "udr.integrations.llama_index",
    "markupsafe": "udr_training.evaluation.report.",
    "mcp": "udr.integrations.mcp",
    "onnx_ir": "udr.models.onnx.export",
    "onnx": "udr.models.onnx.quantization",
    "onnxruntime": "udr.models.onnx.encoder udr.models.onnx.quantization",
    "openvino": "udr.models.onnx.openvino",
    "packaging": "udr.cli.doctor.packages",
    "peft": "udr_training.trainer.model",
    "prometheus_client": "udr_service.observability.metrics udr_service.observability.reports",
    "opentelemetry": "udr_service.observability.tracing",
    "pyarrow": "udr.data.parquet",
    "pydantic": "udr_service.",
    "pydantic_core": "udr_service.",
    "pydantic_settings": "udr_service.",
    "python_calamine": "udr_index.preparation.excel",
    "ray": "udr.models.runner.ray_workers udr_service.app.ray_serve",
    "rouge_score": "udr_training.answering.metrics",
    "s3fs": "udr.files.remote",
    "sklearn": "udr.search.regression",
    "threadpoolctl": "udr.search.regression",
    "sacrebleu": "udr_training.answering.metrics",
    "safetensors": "udr.models.hub.difference udr_training.",
    "sentence_transformers": "udr.models.encoder udr_training.",
    "sqlite3": (
        "udr.store. udr_index.versions.diff udr_index.build.ingest udr_training.feedback.store "
        "udr_training.answering.server.paid udr_training.run_folder.working_copy"
    ),
    "starlette": "udr_service.",
    "tiktoken": "udr.models.counting.tiktoken_tokenizer",
    "tiktoken_ext": "udr.models.counting.tiktoken_tokenizer",
    "tokenizers": "udr.models.counting.file_tokenizer udr.models.query_tokenizer",
    "torch": "udr.models.encoder udr.models.device udr.models.onnx.export udr.models.encoder_backends udr_training.",
    "transformers": "udr.models.counting.transformers_tokenizer udr_training.",
    "tomli_w": (
        "udr_training.config.files udr_training.pool.criteria.files udr_training.pool.new_collection "
        "udr_training.pool.synthesis.writing udr_index.preparation.task_file"
    ),
    "uvicorn": "udr_service.",
}
EVERYWHERE = {"lazy_loader", "numpy", "typer"}
# Shared by all layers, and imported from these files.
SHARED = {"udr.errors", "udr.files", "udr.installation", "udr.types", "udr_service.errors"}


def top(name: str) -> str:
    return name.partition(".")[0]


def name_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, tuple[Path, ast.Module]]:
    """Every module of ours by name: its file, parsed."""
    return {
        name_of(path, REPOSITORY / folder): (path, ast.parse(path.read_text("utf-8"), str(path)))
        for package, folder in PACKAGES.items()
        for path in sorted((REPOSITORY / folder / package).rglob("*.py"))
    }


def packages() -> dict[str, Path]:
    """The folders of our packages and subpackages, by name."""
    return {name: path.parent for name, (path, _) in modules().items() if path.name == "__init__.py"}


def imports(tree: ast.Module) -> Iterator[str]:
    """What a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_every_import_follows_the_layers() -> None:
    # In a process of its own: it disables this process's loggers.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("folder", ["udr", "index", "service", "training", "tests", "benchmarks", "examples"])
def test_imports_from_other_packages_use_their_public_names(folder: str) -> None:
    files = modules().keys() - packages().keys() - SHARED
    root = REPOSITORY / (folder if folder in PACKAGES.values() else ".")
    strangers = {
        (str(path.relative_to(REPOSITORY)), module)
        for path in (REPOSITORY / folder).rglob("*.py")
        for module in imports(ast.parse(path.read_text("utf-8")))
        if module in files and not f"{name_of(path, root)}.".startswith(f"{module.rpartition('.')[0]}.")
    }
    assert strangers == set()


def offers(module: ModuleType, public: str) -> bool:
    """Whether a module has a public name, or says which extra would bring it."""
    try:
        return hasattr(module, public)
    except MissingExtraError:
        return True


def test_every_package_declares_its_public_names() -> None:
    assert {top(name) for name in modules()} == set(PACKAGES)
    for name, folder in packages().items():
        module, tree = importlib.import_module(name), modules()[name][1]
        # A package without public names has only a docstring.
        assert (folder / "__init__.pyi").exists() == (len(tree.body) > 1), name
        assert [public for public in getattr(module, "__all__", []) if not offers(module, public)] == [], name
        assert name not in PACKAGES or (folder / "py.typed").is_file()


def test_no_folder_has_too_many_modules() -> None:
    for name, folder in packages().items():
        entries = {path.stem for path in folder.iterdir() if path.suffix in ("", ".py")}
        entries -= {"__init__", "__pycache__", "presets", "static"}
        assert len(entries) <= (13 if name == "udr" else 12), (name, sorted(entries))


def test_only_its_adapters_import_an_engine() -> None:
    free = EVERYWHERE | PACKAGES.keys() | (sys.stdlib_module_names - ADAPTERS.keys())
    strays = {
        (name, top(imported))
        for name, (_, tree) in modules().items()
        for imported in imports(tree)
        if top(imported) not in free
        and not any(
            f"{name}.".startswith(f"{allowed.rstrip('.')}.") for allowed in ADAPTERS.get(top(imported), "").split()
        )
    }
    assert strays == set()


TYPER = "typer annotated_doc annotated_types pydantic pydantic_core shellingham typing_extensions typing_inspection"
"""What the command line is made with, and what that loads."""


@pytest.mark.parametrize(
    ("code", "light"),
    [
        (
            "from udr import Row, Task, RetrievalRequest, UdrError, PromptBuilder, Retriever; "
            "from udr.store import verify",
            "lazy_loader numpy",
        ),
        # Help comes at once, so it does without numpy, too.
        ("import udr.integrations; from udr import cli; cli.main(['--help'])", f"lazy_loader tomli_w {TYPER}"),
        ("from udr import cli; cli.main(['index', '--help'])", f"lazy_loader {TYPER}"),
    ],
)
def test_light_imports_load_nothing_heavy(code: str, light: str, tmp_path: Path) -> None:
    code = f"import sys; before = {{*sys.modules}}; {code}; print(*sys.modules.keys() - before, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = {top(name) for name in result.stderr.split()} - sys.stdlib_module_names - PACKAGES.keys()
    assert {name for name in loaded if not name.startswith("_")} <= set(light.split())
