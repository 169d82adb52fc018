"""Who may import whom: read from the source, imports inside functions included."""

import ast
import importlib
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
    "faiss": ["udr.search.faiss_cpu", "udr.search.faiss_gpu"],
    "fastapi": ["udr_service."],
    "filelock": ["udr_index.lock"],
    "gguf": ["udr_training."],
    "httpx2": [
        "udr.client.transport",
        "udr.client.client",
        "udr.client.async_client",
        "udr_training.feedback.remote.http",
    ],
    "huggingface_hub": ["udr.models.hub"],
    "langchain_core": ["udr.integrations.langchain"],
    "onnxruntime": ["udr.models.onnx_encoder"],
    "peft": ["udr_training.trainer.model"],
    "prometheus_client": ["udr_service.observability.metrics"],
    "opentelemetry": ["udr_service.observability.tracing"],
    "pyarrow": ["udr.data.parquet"],
    "pydantic": ["udr_service."],
    "pydantic_core": ["udr_service."],
    "pydantic_settings": ["udr_service."],
    "rouge_score": ["udr_training.evaluation.metrics"],
    "sacrebleu": ["udr_training.evaluation.metrics"],
    "safetensors": ["udr_training."],
    "sentence_transformers": ["udr.models.encoder", "udr_training."],
    "sqlite3": [
        "udr.store.demonstrations",
        "udr_index.versions.row_diff",
        "udr_index.build.ingest",
        "udr_training.feedback.store",
    ],
    "starlette": ["udr_service."],
    "tiktoken": ["udr.models.tiktoken_tokenizer"],
    "tiktoken_ext": ["udr.models.tiktoken_tokenizer"],
    "tokenizers": ["udr.models.tokenizer", "udr.models.query_tokenizer"],
    "torch": [
        "udr.models.encoder",
        "udr.models.device",
        "udr.models.onnx_encoder",
        "udr.models.encoder_backends",
        "udr_training.",
    ],
    "transformers": ["udr.models.transformers_tokenizer", "udr_training."],
    "uvicorn": ["udr_service."],
}
EVERYWHERE = {"lazy_loader", "numpy", "typer"}


def location(name: str) -> Path:
    """Return the file of a module of ours."""
    path = REPOSITORY / PACKAGES[top(name)] / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def packages() -> frozenset[str]:
    """The names of our packages and their subpackages."""
    return frozenset(name for name in modules() if location(name).name == "__init__.py")


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


def test_every_import_goes_one_way() -> None:
    # In a process of its own: it turns off the loggers of the one it runs in.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stdout


# The values and errors that everything shares stand at the top of the core, and are imported from where they stand.
SHARED = {"udr.errors", "udr.files", "udr.types"}


def strangers(name: str, tree: ast.Module) -> Iterator[str]:
    """Yield the files of other packages of ours that a module imports from; it should import from the packages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules().keys() - packages() - SHARED:
            if not name.startswith(f"{node.module.rpartition('.')[0]}."):
                yield node.module


@pytest.mark.parametrize("folder", ["udr", "index", "service", "training", "tests", "benchmarks", "examples"])
def test_others_import_packages_and_not_their_files(folder: str) -> None:
    files = {
        str(path.relative_to(REPOSITORY).with_suffix("")).replace("/", ".").removeprefix(f"{folder}.udr_"): path
        for path in (REPOSITORY / folder).rglob("*.py")
    }
    names = {path: name for name, path in ((name, location(name)) for name in modules())}
    found = {
        (str(path.relative_to(REPOSITORY)), stranger)
        for path in files.values()
        for stranger in strangers(names.get(path, "tests"), ast.parse(path.read_text("utf-8")))
    }
    assert found == set()


def test_every_package_names_what_it_offers() -> None:
    for name in packages():
        module = importlib.import_module(name)
        init = location(name)
        # A package with nothing for others has a docstring alone.
        assert init.with_suffix(".pyi").exists() == (len(ast.parse(init.read_text("utf-8")).body) > 1), name
        assert [public for public in getattr(module, "__all__", []) if not hasattr(module, public)] == [], name


def test_no_folder_has_more_rooms_than_can_be_kept_in_mind() -> None:
    for name in packages():
        entries = [path for path in location(name).parent.iterdir() if path.suffix in ("", ".py")]
        rooms = {path.stem for path in entries} - {"__init__", "__pycache__", "presets", "static"}
        assert len(rooms) <= (14 if name == "udr" else 12), (name, sorted(rooms))


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
        "from udr import PromptBuilder, Retriever; from udr.store import verify",
        "from udr import cli; cli.main(['--help'])",
        "from udr import cli; cli.main(['index', '--help'])",
        "from udr import cli; cli.main(['--version'])",
    ],
)
def test_what_is_light_imports_nothing_heavy(code: str, tmp_path: Path) -> None:
    code += f"; import sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)

    assert done.stderr == "[]\n"
