"""Who may import whom: read from the source, imports inside functions included."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = {"udr": ".", "udr_index": "index", "udr_service": "service", "udr_training": "training"}

# An engine, and the files that may import it: modules, or packages with a dot at the end.
ADAPTERS = {
    "datasets": ["udr_training."],
    "dspy": ["udr.integrations.dspy"],
    "faiss": ["udr.faiss_search", "udr.faiss_gpu"],
    "fastapi": ["udr_service."],
    "filelock": ["udr_index.lock"],
    "gguf": ["udr_training."],
    "httpx2": ["udr.http_protocol", "udr.client", "udr.async_client", "udr_training.feedback.completions"],
    "huggingface_hub": ["udr.models"],
    "langchain_core": ["udr.integrations.langchain"],
    "onnxruntime": ["udr.onnx_encoder"],
    "peft": ["udr_training.towers"],
    "prometheus_client": ["udr_service.metrics"],
    "opentelemetry": ["udr_service.telemetry"],
    "pyarrow": ["udr.parquet"],
    "pydantic": ["udr_service."],
    "pydantic_core": ["udr_service."],
    "pydantic_settings": ["udr_service."],
    "rouge_score": ["udr_training.evaluation.metrics"],
    "sacrebleu": ["udr_training.evaluation.metrics"],
    "safetensors": ["udr_training."],
    "sentence_transformers": ["udr.encoder", "udr_training."],
    "sqlite3": ["udr.demonstrations", "udr.demonstration_diff", "udr_index.ingest", "udr_training.feedback.store"],
    "starlette": ["udr_service."],
    "tiktoken": ["udr.tiktoken_tokenizer"],
    "tiktoken_ext": ["udr.tiktoken_tokenizer"],
    "tokenizers": ["udr.tokenizer", "udr.query_tokens"],
    "torch": ["udr.encoder", "udr.machine", "udr.onnx_encoder", "udr.query_engines", "udr_training."],
    "transformers": ["udr.transformers_tokenizer", "udr_training."],
    "uvicorn": ["udr_service."],
}
EVERYWHERE = {"numpy", "typer"}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of ours by name, parsed."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((REPOSITORY / folder / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY / folder).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text("utf-8"), str(path))
    return found


def imports(tree: ast.AST, *, for_types: bool = True) -> Iterator[str]:
    """What a module imports, anywhere in it; ``for_types=False`` leaves out ``if TYPE_CHECKING:`` blocks."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else str(node.module)
        elif not for_types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from (name for part in node.orelse for name in imports(part, for_types=False))
        else:
            yield from imports(node, for_types=for_types)


def top(name: str) -> str:
    return name.partition(".")[0]


def test_every_package_is_looked_at() -> None:
    assert {top(name) for name in modules()} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_applications_import_the_core_and_never_one_another(package: str) -> None:
    allowed = {package, "udr"}
    others = {
        (name, imported)
        for name, tree in modules().items()
        if top(name) == package
        for imported in imports(tree)
        if top(imported) in PACKAGES and top(imported) not in allowed
    }
    assert others == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        name: {found for found in imports(tree, for_types=False) if found in modules()}
        for name, tree in modules().items()
    }

    def cycle(name: str, way: tuple[str, ...]) -> tuple[str, ...]:
        if name in way:
            return (*way[way.index(name) :], name)
        if name in done:
            return ()
        for found in sorted(graph[name]):
            if circle := cycle(found, (*way, name)):
                return circle
        done.add(name)
        return ()

    done: set[str] = set()
    assert [circle for name in graph if (circle := cycle(name, ()))] == []


def test_every_engine_has_its_adapter_and_no_one_else_imports_it() -> None:
    strays = {
        (name, top(imported))
        for name, tree in modules().items()
        for imported in imports(tree)
        if not (
            top(imported) in EVERYWHERE | PACKAGES.keys()
            or (top(imported) in sys.stdlib_module_names and top(imported) not in ADAPTERS)
            or any(f"{name}.".startswith(f"{allowed.rstrip('.')}.") for allowed in ADAPTERS.get(top(imported), []))
        )
    }
    assert strays == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str) -> None:
    assert (REPOSITORY / PACKAGES[package] / package / "py.typed").is_file()


HEAVY = ("torch", "faiss", "fastapi", "transformers", "sentence_transformers", "uvicorn", "httpx2", "pyarrow")


@pytest.mark.parametrize(
    "code",
    [
        "import udr",
        "from udr import Row, Task, RetrievalRequest, UdrError",
        "import udr.retriever, udr.store, udr.prompt, udr.verification",
        "from udr import cli; cli.main(['--help'])",
        "from udr import cli; cli.main(['index', '--help'])",
        "from udr import cli; cli.main(['--version'])",
    ],
)
def test_what_is_light_imports_nothing_heavy(code: str, tmp_path: Path) -> None:
    code += f"; import sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)

    assert done.stderr == "[]\n"
