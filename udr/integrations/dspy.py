"""DSPy: a teleprompter whose program shows each call the demonstrations that a source has for it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from udr.errors import ArtifactError, MissingExtraError
from udr.integrations.demos import Demos
from udr.integrations.selector import Selector
from udr.prompts import Order
from udr.retrieval import AsyncDemonstrationSource, SelectionOptions
from udr.types import Fields

try:
    import dspy
    from dspy.teleprompt import Teleprompter
except ImportError as error:
    raise MissingExtraError("dspy", "dspy") from error

# The setting that holds a call's demos. DSPy carries the settings of a context into coroutines and its own worker
# threads, and no two calls share them.
_SETTING = "udr_demos"


class DemonstrationFewShot(Teleprompter):
    """Few-shot demonstrations from an index, chosen anew for each call; like DSPy's ``KNNFewShot``.

    Unlike there, the demonstrations are shown as they are: no language model is called but by the program itself.

    Args:
        source: a ``Retriever`` or a ``Client``; with an ``AsyncClient`` the program answers ``acall`` alone.
        task: the task whose demonstrations to take.
        k: how many.
        fields: from the task's fields to the program's inputs; None for equal names, where all inputs are fields.
        target: the output field that shows a demonstration's target; None for the last one of the last predictor.
        order: ``nearest_last``, beside the query, as udr's own prompts have it; ``nearest_first``, or another of
            ``udr.order.Order``.
        options: how demonstrations are chosen, see ``udr.retrieval.RetrievalRequest``.

    Raises:
        ConfigError: there is no such order or option.
    """

    def __init__(
        self,
        source: AsyncDemonstrationSource,
        task: str,
        k: int = 8,
        *,
        fields: Mapping[str, str] | None = None,
        target: str | None = None,
        order: Order | str = Order.NEAREST_LAST,
        **options: Unpack[SelectionOptions],
    ) -> None:
        super().__init__()
        selector = Selector(source=source, task=task, k=k, order=order, options=options)
        self._demos = Demos(selector, fields=fields, target=target)

    def compile(self, student: dspy.Module) -> "DemonstrationProgram":
        """Return the program with demonstrations; the student stays as it is.

        Demos that its predictors had are dropped, as DSPy's teleprompters do; their language models are kept.

        Raises:
            ConfigError: the program has no field of a name, or no predictor at all.
        """
        return DemonstrationProgram(student, self._demos)


class DemonstrationProgram(dspy.Module):
    """A program that asks for demonstrations once a call, by its inputs, and gives them to each of its predictors.

    A predictor shows them where the target is one of its outputs, and a field of theirs one of its inputs; elsewhere
    DSPy's adapters leave them out. May be called by several threads at once, and awaited.

    ``save`` to JSON keeps where the source is and how it is asked, beside the predictors' own state. ``load`` takes
    over all of that but the source; ``open_program`` opens the source, too, and so does ``dspy.load`` of a program that
    was saved as a whole.

    Args:
        student: the program to copy.
        demos: what to show.

    Attributes:
        program: the copy.
        demos: what it is shown.

    Raises:
        ConfigError: the program has no field of a name, or no predictor at all.
    """

    def __init__(self, student: dspy.Module, demos: Demos) -> None:
        super().__init__()
        student = student.program if isinstance(student, DemonstrationProgram) else student
        self.program: dspy.Module = student.reset_copy()
        # What is compiled already would be passed over when the predictors are looked for.
        self.program._compiled = False
        self.demos = _checked(demos, self.program)
        for own, given in zip(self.program.predictors(), student.predictors(), strict=True):
            # The reset forgets the language model, too.
            own.lm = given.lm
            for name in ("forward", "aforward"):
                # Looked up past DSPy, which warns of whoever looks at a forward without calling it.
                inner = object.__getattribute__(own, name)
                setattr(own, name, inner if isinstance(inner, _Shown) else _Shown(inner))
        self._compiled = True

    def forward(self, **inputs: object) -> dspy.Prediction:
        """Ask for demonstrations, and call the program."""
        with _showing(self.demos.select(inputs)):
            return self.program(**inputs)

    async def aforward(self, **inputs: object) -> dspy.Prediction:
        """Ask for demonstrations, and await the program; the event loop goes on meanwhile."""
        with _showing(await self.demos.aselect(inputs)):
            return await self.program.acall(**inputs)

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Return the predictors' state, and under ``demonstrations`` what they are shown."""
        return {**super().dump_state(json_mode=json_mode), "demonstrations": self.demos.to_json()}

    def load_state(self, state: Mapping[str, Any], *, allow_unsafe_lm_state: bool = False) -> None:
        """Take over what ``dump_state`` returned; the source stays the one that this program has.

        Raises:
            ArtifactError: the state is not that of such a program.
        """
        demos = _checked(_saved(state, self.demos.selector.source), self.program)
        super().load_state(state, allow_unsafe_lm_state=allow_unsafe_lm_state)
        self.demos = demos


def open_program(
    student: dspy.Module, path: Path | str, *, source: AsyncDemonstrationSource | None = None
) -> DemonstrationProgram:
    """Return the program that was saved to a JSON file.

    Args:
        student: a program of the same make as the one that was compiled.
        path: the file that the compiled program's ``save`` wrote.
        source: where the demonstrations come from; None opens the index, or the service's URL, that the file names.
            Inputs are sent there, with the key in ``UDR_API_KEY``: give a source where the file is not your own.

    Raises:
        ArtifactError: the file is not that of such a program, or names no source.
        UdrError: the index cannot be opened.
    """
    program = DemonstrationProgram(student, _saved(json.loads(Path(path).read_text("utf-8")), source))
    program.load(path)
    return program


@dataclass(frozen=True)
class _Shown:
    """A predictor's ``forward`` or ``aforward``, which is given the demos of the call at hand."""

    forward: Callable[..., object]

    def __call__(self, **inputs: object) -> object:
        return self.forward(**{"demos": dspy.settings.get(_SETTING, []), **inputs})


def _showing(demos: Sequence[Fields]) -> Any:  # noqa: ANN401  # DSPy's own context manager has no type
    return dspy.context(**{_SETTING: [dspy.Example(demo) for demo in demos]})


def _checked(demos: Demos, program: dspy.Module) -> Demos:
    signatures = [predictor.signature for predictor in program.predictors()]
    inputs = [name for signature in signatures for name in signature.input_fields]
    return demos.checked(inputs, [name for signature in signatures for name in signature.output_fields])


def _saved(state: Mapping[str, Any], source: AsyncDemonstrationSource | None) -> Demos:
    if "demonstrations" not in state:
        raise ArtifactError("the state holds no demonstrations; it is not that of a program of DemonstrationFewShot")
    return Demos.from_json(state["demonstrations"], source)
