"""The capacity plan: what rows, queries, pairs and trainings cost, from the figures in ``docs/results/``.

Each figure quotes its page, and must still stand there. What follows from it by proportion is marked ``~``.

    python benchmarks/scale.py --out build/scale --parts plan
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"
ROWS = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
NODE_BYTES = 56e9
"""What a machine of 64 GB has for an index, beside the system, the encoder and what is read from the disk."""

ENCODED = 20_000 / 194
"""Rows a second that MiniLM encodes on two cores."""

PAIRS = (1.81, 16.0)
"""Pairs a second of a language model of 135 million parameters on two cores: the slowest and the fastest task."""

CORES_FLOPS, GPU_FLOPS = 0.62 * 2 * 110e9, 0.4 * 1_000e12
"""Operations a second of that model on two cores: its share of their float32 rate; and by assumption on a GPU: 40 % of
1,000 TFLOP/s, about an H100's dense bfloat16."""

STEP_SECONDS, STEP_QUERIES = 2.7, 16
REPLICA = {"onnx": 202, "onnx-int8": 378}
"""Requests a second of a service on two cores, which the client shares."""

QUOTES = (
    ("indexes.md", "from scratch 194 s"),
    ("indexes.md", "28, 95, 230 s | 70, 203, 421 s"),
    ("indexes.md", "| 1,040 | 851 |"),
    ("indexes.md", "| 1,252 s | 1,352 s | 3,247 s | 323 s | 6,196 s |"),
    ("indexes.md", "| **64** | 92 |"),
    ("indexes.md", "59, 768, 250"),
    ("indexes.md", "2.8 hours to read and write rows and vectors, and 3 to fill 4,096 lists"),
    ("feedback.md", "| banking77 (77 labels) | 1.81 |"),
    ("feedback.md", "| trec | 16.0 |"),
    ("feedback.md", "38.8 bytes each"),
    ("feedback.md", "The packed side ran at 0.59 to 0.66 of the rate of a large"),
    ("service.md", "about 110 GFLOP/s per core"),
    ("training.md", "| `CandidateLoss` | 2.7 |"),
    ("service.md", "202 of 272 texts a second"),
    ("service.md", "378 against 56 a second"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of partition, of 384 dimensions.

    Attributes:
        name: as ``--kind`` takes it, with its vectors' precision.
        memory: bytes a row that a search needs in memory.
        disk: bytes a row of vectors, texts and, but for a flat kind, the index file.
        write: seconds a row to read and write it, without encoding, on two cores.
        fill: seconds a row to find its list among 4,096, on two cores; more lists take longer in proportion.
        exact: whether a query compares with every row; else it takes a share of √n of √n lists.
        measured: queries a second on one core, by the number of rows.
        built: seconds of a build on two cores, as measured, by the number of rows.
    """

    name: str
    memory: float
    disk: float
    write: float
    fill: float
    exact: bool
    measured: Mapping[int, float]
    built: Mapping[int, float]

    def query_seconds(self, rows: int) -> float:
        """Return the seconds of a query over so many rows: as measured, or in proportion to the nearest that was."""
        nearest = min(self.measured, key=lambda count: abs(math.log(rows / count)))
        growth = rows / nearest if self.exact else math.sqrt(rows / nearest)
        return growth / self.measured[nearest]

    def build_seconds(self, rows: int) -> float:
        """Return the seconds of building so many rows."""
        if rows in self.built:
            return self.built[rows]
        return rows * (self.write + self.fill * lists(rows) / 4096)


def lists(rows: int) -> int:
    """Return the number of lists of so many rows, as ``udr index build`` chooses it: the power of 2 nearest to 4√n."""
    return int(2 ** round(math.log2(4 * math.sqrt(rows))))


_FLAT_RATE = 1_040 / 64
# Of the hundred million of indexes.md: 2.8 hours to read and write, 3 to fill 4,096 lists.
KINDS = (
    Kind("flat, float32", 1536, 1536 + 250, 28 / 1e6, 0, True, {1_000_000: _FLAT_RATE}, {1_000_000: 28}),
    Kind("IVF…,SQ8, float32", 384 + 8, 392 + 1536 + 250, 1e-4, 130e-6, False, {1_000_000: 1_040}, {1_000_000: 230}),
    Kind(
        "IVF…,PQ48x8, float16",
        memory=59,
        disk=59 + 768 + 250,
        write=1e-4,
        fill=105e-6,
        exact=False,
        measured={2_000_000: 851},
        built={2_000_000: 421, 10_000_000: 6_196},
    ),
)


def check_quotes() -> None:
    """Raise a ``ValueError`` if a page does not say any more what the plan is made of."""
    for page, quote in QUOTES:
        if quote not in (RESULTS / page).read_text("utf-8"):
            raise ValueError(f"docs/results/{page} does not say {quote!r} any more; correct scale_plan.py")


def plan() -> str:
    """Return the plan as Markdown."""
    check_quotes()
    return "\n".join([*_by_rows(), "", *_by_kind(), "", *_by_work()])


def _by_kind() -> Iterator[str]:
    yield from _table(
        ("kind", "bytes a row in memory", "on disk", "seconds a million rows to build", "rows a node of 64 GB"),
        [
            (
                kind.name,
                f"{kind.memory:,.0f}",
                f"{kind.disk:,.0f}",
                f"{'' if 1_000_000 in kind.built else '~'}{kind.build_seconds(1_000_000):,.0f}",
                f"~{_short(NODE_BYTES / kind.memory)}",
            )
            for kind in KINDS
        ],
    )


def _by_rows() -> Iterator[str]:
    for title, unit in (("memory", "memory"), ("a query, one core", "query"), ("building, two cores", "build")):
        rows = [(kind.name, *(_cell(kind, unit, rows) for rows in ROWS)) for kind in KINDS]
        if unit == "build":
            encoding = (f"~{_time(n / ENCODED)}" for n in ROWS)
            rows.append(("encoding them by MiniLM, two cores", *encoding))
        yield from _table((title, *map(_short, ROWS)), rows)
        if unit != "build":
            yield ""


def _cell(kind: Kind, unit: str, rows: int) -> str:
    mark = "" if rows in (kind.built if unit == "build" else kind.measured) else "~"
    if unit == "memory":
        return f"{mark}{_bytes(kind.memory * rows)}"
    return f"{mark}{_time(kind.query_seconds(rows) if unit == 'query' else kind.build_seconds(rows))}"


def _by_work() -> Iterator[str]:
    sizes = (("135 million", 0.135), ("1 billion", 1.0), ("8 billion", 8.0))
    seconds = [[1e6 / rate * size / 0.135 for rate in reversed(PAIRS)] for _, size in sizes]
    share = CORES_FLOPS / GPU_FLOPS
    yield from _table(
        (
            "a million pairs, parameters",
            *("two cores: short prompts (trec)", "77 labels (banking77)"),
            *("one GPU, by arithmetic: short prompts", "77 labels"),
        ),
        [
            (
                name,
                *(f"{'' if size == 0.135 else '~'}{_time(each)}" for each in own),
                # Small models leave most of a GPU idle.
                *(f"~{_time(each * share)}" if size >= 1 else "" for each in own),
            )
            for (name, size), own in zip(sizes, seconds, strict=True)
        ],
    )
    yield ""
    visits = (10_000, 100_000, 1_000_000)
    yield from _table(
        ("visits of queries in training", *map(_short, visits)),
        [("MiniLM, 6 candidates each, two cores", *(f"~{_time(n / STEP_QUERIES * STEP_SECONDS)}" for n in visits))],
    )
    yield ""
    yield from _table(
        ("1,000 queries a second", "replicas of two cores"),
        [
            (f"engine `{engine}`, {rate} a second each", f"~{math.ceil(1_000 / rate)}")
            for engine, rate in REPLICA.items()
        ],
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _short(number: float) -> str:
    for size, name in ((1e9, " billion"), (1e6, " million")):
        if number >= size:
            return f"{number / size:.3g}{name}"
    return f"{number:,.0f}"


def _two(value: float) -> str:
    """Return a number with two digits that count."""
    return f"{float(f'{value:.2g}'):,g}"


def _bytes(count: float) -> str:
    return f"{_two(count / 1e9)} GB" if count >= 1e9 else f"{_two(count / 1e6)} MB"


def _time(seconds: float) -> str:
    for size, name in ((172_800, "days"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{_two(seconds / min(size, 86_400))} {name}"
    return f"{_two(seconds * 1e6)} µs"


def draw(path: Path) -> None:
    """Draw how memory, a query and a build grow: dots where it was measured, dashed where it is extrapolated."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "udr", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    check_quotes()
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    for kind in KINDS:
        units = (
            (lambda rows, kind=kind: kind.memory * rows / 1e9, kind.measured),
            (lambda rows, kind=kind: kind.query_seconds(rows) * 1e3, kind.measured),
            (lambda rows, kind=kind: kind.build_seconds(rows) / 3600, kind.built),
        )
        for axis, (value, measured) in zip(axes, units, strict=True):
            (line,) = axis.plot(ROWS, [*map(value, ROWS)], "--", linewidth=1.2, label=kind.name)
            axis.plot([*measured], [*map(value, measured)], "o", color=line.get_color())
    axes[2].plot(ROWS, [rows / ENCODED / 3600 for rows in ROWS], ":", color="gray", label="encoding by MiniLM")
    axes[2].plot([20_000], [20_000 / ENCODED / 3600], "o", color="gray")
    axes[0].axhline(NODE_BYTES / 1e9, color="gray", linewidth=0.8)
    axes[0].annotate("a node of 64 GB", (1.2e4, NODE_BYTES / 1e9 * 1.25), color="gray")
    for axis, title in zip(axes, ("memory, GB", "a query, ms, one core", "building, hours, two cores"), strict=True):
        axis.set(xscale="log", yscale="log", title=title, xlabel="rows")
        axis.grid(alpha=0.3)
        axis.minorticks_off()
    figure.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
