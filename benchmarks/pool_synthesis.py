"""How many right solutions tree search finds beside rejection sampling, with the same number of generated tokens.

    python benchmarks/pool_synthesis.py [--questions 60] [--seeds 5]

No language model is asked: a question has 4 to 8 steps, each of which is right with the question's own probability
(0.95, 0.9, 0.8, 0.7 or 0.6) if those before are, and in one of four wordings, each rarer than the one before. A wrong
step is never made good. Prints Markdown. First both search every question until as many tokens are generated as 8, 16,
... whole solutions have: the ratio of the numbers of different right solutions, of the different steps in them, the
former for questions of each probability, and the shares of questions solved by either. Then both search as
`udr pool synthesise` does by default, until 4 right solutions or all tries are used up.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from measuring import parser

from udr_training.pool.synthesis import METHODS, Draw, Drawn, Limits, Tree, grow, summary

CHANCES = (0.95, 0.9, 0.8, 0.7, 0.6)
Select = Callable[[Tree], int]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--questions", type=int, default=60)
    options.add_argument("--seeds", type=int, default=5)
    arguments = options.parse_args()
    print(
        "| tokens of | right solutions | steps in them |",
        *(f"{chance} |" for chance in CHANCES),
        "solved: tree, rejection |",
    )
    print("|" + "---|" * (4 + len(CHANCES)))
    for size in (8, 16, 32, 64):
        print(_row(size, arguments.questions, arguments.seeds), flush=True)
    print(
        "\n| method | questions with 4 right solutions | with one | solutions drawn | tokens |\n|---|---|---|---|---|"
    )
    for name, select in METHODS.items():
        print(_by_default(name, select, arguments.questions, arguments.seeds), flush=True)


@dataclass
class Stepwise:
    """Questions of 4 to 8 steps of known probabilities; a step is a token."""

    questions: int
    seed: int = 0
    steps: list[int] = field(init=False)
    chances: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.steps = [self.random.randint(4, 8) for _ in range(self.questions)]
        self.chances = [self.random.choice(CHANCES) for _ in range(self.questions)]

    def draw(self, draws: Sequence[Draw]) -> list[Drawn]:
        """Draw the rest of solutions."""
        return [self._drawn(draw) for draw in draws]

    def _drawn(self, draw: Draw) -> Drawn:
        right, steps = all(step.startswith("right") for step in draw.prefix), list[str]()
        for _ in range(self.steps[draw.question] - len(draw.prefix)):
            right = right and self.random.random() < self.chances[draw.question]
            steps.append(f"{'right' if right else 'wrong'} {min(int(self.random.expovariate(1)), 3)}")
        return Drawn(tuple(steps), right, len(steps))


def searched(problem: Stepwise, size: int, select: Select) -> list[Tree]:
    """Return the trees of all questions, each after the tokens of ``size`` whole solutions."""
    trees = [Tree() for _ in range(problem.questions)]
    for number, (tree, steps) in enumerate(zip(trees, problem.steps, strict=True)):
        while tree.tokens < size * steps:
            grow([tree], partial(_one, problem, number), Limits(enough=1_000_000, tries=tree.root.paths + 4), select)
    return trees


def _one(problem: Stepwise, number: int, draws: Sequence[Draw]) -> list[Drawn]:
    return problem.draw([Draw(number, draw.prefix, draw.sample) for draw in draws])


def ratio(count: Callable[[Tree], int], trees: Sequence[Tree], others: Sequence[Tree]) -> float:
    """Return how many times more of something some trees have for each token."""

    def rate(some: Sequence[Tree]) -> float:
        return sum(map(count, some)) / sum(tree.tokens for tree in some)

    return rate(trees) / rate(others)


def solutions(tree: Tree) -> int:
    """Return the number of different right solutions."""
    return len(tree.solved)


def steps_in_them(tree: Tree) -> int:
    """Return the number of different steps of right solutions."""
    return sum(node.right > 0 for node in tree.nodes[1:])


def _row(size: int, questions: int, seeds: int) -> str:
    pairs = list[tuple[float, Tree, Tree]]()
    for seed in range(seeds):
        both = [searched(Stepwise(questions, seed), size, METHODS[name]) for name in ("tree", "rejection")]
        pairs += zip(Stepwise(questions, seed).chances, *both, strict=True)
    _, trees, others = zip(*pairs, strict=True)
    cells = [f"{size} solutions", *(f"{ratio(count, trees, others):.2f}" for count in (solutions, steps_in_them))]
    for chance in CHANCES:
        hard = [(tree, other) for its, tree, other in pairs if its == chance]
        cells.append(f"{ratio(solutions, *zip(*hard, strict=True)):.2f}")
    solved = [sum(bool(tree.solved) for tree in some) / len(some) for some in (trees, others)]
    return f"| {' | '.join(cells)} | {solved[0]:.1%}, {solved[1]:.1%} |"


def _by_default(name: str, select: Select, questions: int, seeds: int) -> str:
    every = list[Tree]()
    for seed in range(seeds):
        trees = [Tree() for _ in range(questions)]
        grow(trees, Stepwise(questions, seed).draw, Limits(), select)
        every += trees
    counts, enough = summary(every), sum(len(tree.solved) >= Limits().enough for tree in every)
    shares = f"{enough / len(every):.1%} | {counts['solved'] / len(every):.1%}"
    return f"| {name} | {shares} | {counts['paths']:,} | {counts['generated_tokens']:,} |"


if __name__ == "__main__":
    main()
