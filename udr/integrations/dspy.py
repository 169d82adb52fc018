"""DSPy: a teleprompter whose program shows each call the demonstrations that a source retrieves for it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from udr.errors import ArtifactError, MissingExtraError
from udr.integrations.demos import Demos
from udr.integrations.selector import Selector
from udr.prompts import Order
from udr.retrieval import DEFAULT_K, AsyncDemonstrationSource, SelectionOptions
from udr.types import Fields

try:
    import dspy
    from dspy.teleprompt import Teleprompter
except ImportError as error:
    raise MissingExtraError("dspy", "dspy") from error

# The setting with a call's demos. DSPy carries the settings of a context into coroutines and its own worker threads,
# and no two calls share them.
_SETTING = "udr_demos"


class DemonstrationFewShot(Teleprompter):
    """Few-shot demonstrations from an index, retrieved for each call; like DSPy's ``KNNFewShot``.

    Unlike there, only the program itself calls the language model: demonstrations are shown as they are.

    Args:
        source: a ``Retriever`` or a ``Client``; with an ``AsyncClient`` the program supports only ``acall``.
        task: the task of the demonstrations.
        k: how many.
        fields: from the task's fields to the program's inputs; None if the names are equal and all inputs are fields.
        target: the output field that shows a demonstration's target; by default the last one of the last predictor.
        order: ``nearest_last`` (next to the query, as in udr's own prompts), or another of ``udr.prompts.Order``.
        options: how demonstrations are chosen, see ``udr.RetrievalRequest``.

    Raises:
        InvalidInputError: an unknown order.
        ConfigError: an unknown option.
    """

    def __init__(
        self,
        source: AsyncDemonstrationSource,
        task: str,
        k: int = DEFAULT_K,
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
        """Return the program with demonstrations; the student does not change.

        As in DSPy's teleprompters, the predictors lose their own demos; they keep their language models.

        Raises:
            ConfigError: the program lacks a field, or has no predictor.
        """
        return DemonstrationProgram(student, self._demos)


class DemonstrationProgram(dspy.Module):
    """A program that retrieves demonstrations once per call, from its inputs, for all of its predictors.

    A predictor shows them if the target is one of its outputs and one of their fields is one of its inputs; DSPy's
    adapters omit them otherwise. Threads can share the program.

    ``save`` to JSON keeps the source's location and the options beside the predictors' state. ``load`` restores all of
    it except the source; ``open_program``, and ``dspy.load`` of a program saved whole, also open the source.

    Args:
        student: the program to copy.
        demos: the demonstrations to show.

    Attributes:
        program: the copy.
        demos: the demonstrations it is shown.

    Raises:
        ConfigError: the program lacks a field, or has no predictor.
    """

    def __init__(self, student: dspy.Module, demos: Demos) -> None:
        super().__init__()
        student = student.program if isinstance(student, DemonstrationProgram) else student
        self.program: dspy.Module = student.reset_copy()
        # DSPy does not look for predictors inside compiled programs.
        self.program._compiled = False
        self.demos = _checked(demos, self.program)
        for copy, original in zip(self.program.predictors(), student.predictors(), strict=True):
            # The reset also drops the language model.
            copy.lm = original.lm
            for name in ("forward", "aforward"):
                # Bypasses DSPy's warning about access to ``forward`` without a call.
                forward = object.__getattribute__(copy, name)
                setattr(copy, name, forward if isinstance(forward, _Shown) else _Shown(forward))
        self._compiled = True

    def forward(self, **inputs: object) -> dspy.Prediction:
        """Retrieve demonstrations and call the program."""
        with _showing(self.demos.select(inputs)):
            return self.program(**inputs)

    async def aforward(self, **inputs: object) -> dspy.Prediction:
        """Retrieve demonstrations and await the program, without blocking the event loop."""
        with _showing(await self.demos.aselect(inputs)):
            return await self.program.acall(**inputs)

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Return the predictors' state, and the demonstrations' settings under ``demonstrations``."""
        return {**super().dump_state(json_mode=json_mode), "demonstrations": self.demos.to_json()}

    def load_state(self, state: Mapping[str, Any], *, allow_unsafe_lm_state: bool = False) -> None:
        """Restore a ``dump_state``, but keep the source; ``ArtifactError`` if it is of another kind of program."""
        demos = _checked(_saved_demos(state, self.demos.selector.source), self.program)
        super().load_state(state, allow_unsafe_lm_state=allow_unsafe_lm_state)
        self.demos = demos


def open_program(
    student: dspy.Module, path: Path | str, *, source: AsyncDemonstrationSource | None = None
) -> DemonstrationProgram:
    """Return the program that was saved to a JSON file.

    Args:
        student: a program with the structure of the one that was compiled.
        path: the file that the compiled program's ``save`` wrote.
        source: None opens the index or URL in the file, which then receives the inputs and the key in ``UDR_API_KEY``:
            pass a source if the file is not your own.

    Raises:
        ArtifactError: the file is of another kind of program, or has no source.
        UdrError: the index cannot be opened.
    """
    program = DemonstrationProgram(student, _saved_demos(json.loads(Path(path).read_text("utf-8")), source))
    program.load(path)
    return program


@dataclass(frozen=True)
class _Shown:
    """A predictor's ``forward`` or ``aforward``, with the demos of the current call."""

    forward: Callable[..., object]

    def __call__(self, **inputs: object) -> object:
        return self.forward(**{"demos": dspy.settings.get(_SETTING, []), **inputs})


def _showing(demos: Sequence[Fields]) -> Any:  # noqa: ANN401  # DSPy's context manager has no type
    return dspy.context(**{_SETTING: [dspy.Example(demo) for demo in demos]})


def _checked(demos: Demos, program: dspy.Module) -> Demos:
    signatures = [predictor.signature for predictor in program.predictors()]
    inputs = [name for signature in signatures for name in signature.input_fields]
    return demos.checked(inputs, [name for signature in signatures for name in signature.output_fields])


def _saved_demos(state: Mapping[str, Any], source: AsyncDemonstrationSource | None) -> Demos:
    if "demonstrations" not in state:
        raise ArtifactError("the state has no demonstrations; it is not from a program of DemonstrationFewShot")
    return Demos.from_json(state["demonstrations"], source)
