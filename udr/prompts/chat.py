"""Prompts as chat messages, and what a tokenizer's chat template makes of their tokens."""

from collections.abc import Sequence

from udr.data import Task, formatting
from udr.models import ChatCounter, Message
from udr.prompts.budget import Block, PromptLayout, last_first
from udr.prompts.ordering import Arrange
from udr.prompts.token_counts import Memo, outline
from udr.prompts.types import Layout
from udr.retrieval import RetrievedDemonstration

# Characters of what is said that a template's own words may merge with; few, so that many turns have them in common.
_EDGE = 8


def turns(task: Task, demonstration: RetrievedDemonstration) -> tuple[str, str]:
    """Split a demonstration's text into what a user says and what the assistant answers.

    The answer is the target as the text ends with it: verbalised, and with what follows it in the output
    template, where the demonstration is of this task. Another task's output template is not known here; where
    its text does not end with the bare target, the last line is the answer.
    """
    shown, answer = demonstration.text, demonstration.target
    if demonstration.task == task.name:
        answer = formatting.output_text(task, answer).removeprefix(task.output.source.partition("{target}")[0])
    if not answer or not shown.endswith(answer):
        answer = shown.rpartition("\n")[2]
    return shown.removesuffix(answer).rstrip(" "), answer


def messages(layout: Layout, instruction: str, shown: Sequence[Block], query: str) -> tuple[Message, ...]:
    """Return a chat that shows these demonstrations, in this order, and asks the query."""
    if layout is Layout.SYSTEM:
        instruction = formatting.SEPARATOR.join([instruction, *(part for block in shown for part in block.parts)])
        shown = ()
    said = [
        Message(role=role, content=part)
        for block in shown
        for role, part in zip(("user", "assistant"), block.parts, strict=True)
    ]
    return (Message(role="system", content=instruction), *said, Message(role="user", content=query))


class ChatLayout(PromptLayout):
    """A draft that is counted as the tokenizer's chat template words it, up to where the answer begins."""

    def __init__(
        self,
        counter: ChatCounter,
        instruction: str,
        blocks: Sequence[Block],
        query: str,
        arranged: Arrange = last_first,
        layout: Layout = Layout.TURNS,
    ) -> None:
        """Prepare a draft; see ``PromptLayout``.

        Args:
            counter: counts texts and chats.
            instruction: stands in the system message.
            blocks: the demonstrations that may be shown: of two parts as turns, of one part in the system message.
            query: the last user's turn.
            arranged: from the positions that are taken to the order in which they are shown.
            layout: where the demonstrations stand.
        """
        super().__init__(counter, instruction, blocks, query, arranged)
        self._chat, self._layout = counter, layout
        self._wraps = Memo(self._wrap)

    def count(self, shown: Sequence[int]) -> int:
        """Return the tokens of the chat that shows these positions in this order, counted on the whole."""
        blocks = [self.blocks[n] for n in shown]
        return self._chat.count_messages(messages(self._layout, self.instruction, blocks, self.query))

    def weight(self, block: Block) -> int:
        """Return the tokens of a demonstration: of its parts, and of what the template wraps around turns."""
        if self._layout is Layout.SYSTEM:
            return self.contents(block)
        return self.contents(block) + self._wraps[tuple(outline(part, _EDGE) for part in block.parts)]

    def join(self, before: int | None, after: int | None) -> int:
        """Return what the seam of two neighbours adds: nothing, but for texts that meet in the system message."""
        # A template keeps messages apart by special tokens.
        apart = self._layout is Layout.TURNS or after is None
        return 0 if apart else super().join(before, after)

    def _wrap(self, edges: tuple[str, ...]) -> int:
        """Return what the template adds to turns whose parts have these edges."""
        asked = outline(self.instruction, _EDGE), outline(self.query, _EDGE)
        bare, wrapped = (
            self._chat.count_messages(messages(self._layout, asked[0], shown, asked[1]))
            for shown in ((), (Block(edges),))
        )
        return wrapped - bare - sum(self._seams.edges[part] for part in edges)
