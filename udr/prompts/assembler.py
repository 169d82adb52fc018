"""From a task, a query and its demonstrations to the draft of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from udr.data import Kind, Task, formatting
from udr.errors import InvalidInputError
from udr.models import ChatCounter, Message, TokenCounter
from udr.prompts.budget import Block, PromptLayout
from udr.prompts.chat import ChatLayout, messages, turns
from udr.prompts.ordering import Order, arranged
from udr.prompts.types import Format, Layout
from udr.retrieval import RetrievedDemonstration
from udr.types import Fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembler:
    """Makes drafts of one format; ``PromptBuilder`` says what its attributes mean."""

    tokenizer: TokenCounter
    task: Task
    format: Format
    layout: Layout
    order: Order
    seed: int
    message_tokens: int
    choices: Sequence[str]
    list_options: bool

    def draft(self, input: Fields, demonstrations: Sequence[RetrievedDemonstration] = ()) -> PromptLayout:
        """Return the draft of a prompt that may show these demonstrations.

        Raises:
            InvalidInputError: the query has no choices to list.
        """
        query = formatting.query_prompt(self.task, input, self.choices)
        listing = self._listing(input)
        instruction = f"{self.task.instruction}\n{listing}" if listing else self.task.instruction
        blocks = [self._block(demonstration) for demonstration in demonstrations]
        order = arranged(self.order, demonstrations, query, self.seed)
        if self.format is not Format.MESSAGES:
            return PromptLayout(self.tokenizer, instruction, blocks, query, order)
        if isinstance(self.tokenizer, ChatCounter) and self.tokenizer.has_chat_template:
            return ChatLayout(self.tokenizer, instruction, blocks, query, order, self.layout)
        pair = 2 * self.message_tokens
        return PromptLayout(self.tokenizer, instruction, blocks, query, order, pair, pair if self._in_turns else 0)

    def messages(self, draft: PromptLayout, shown: Sequence[int]) -> tuple[Message, ...]:
        """Return the chat that a draft makes with the demonstrations at these positions, in this order."""
        return messages(self.layout, draft.instruction, [draft.blocks[n] for n in shown], draft.query)

    def asked(self, input: Fields) -> str:
        """Return all that the prompt shows of the query: its options, where they are listed, and its input."""
        return formatting.SEPARATOR.join(
            (self._listing(input), formatting.query_prompt(self.task, input, self.choices))
        )

    @property
    def _in_turns(self) -> bool:
        return self.format is Format.MESSAGES and self.layout is Layout.TURNS

    def _block(self, demonstration: RetrievedDemonstration) -> Block:
        kept, fingerprint = demonstration.tokens, getattr(self.tokenizer, "fingerprint", None)
        tokens = kept.count if kept is not None and kept.tokenizer == fingerprint else None
        if not self._in_turns:
            return Block((demonstration.text,), tokens=tokens)
        said, answer = turns(self.task, demonstration)
        gap = demonstration.text[len(said) : len(demonstration.text) - len(answer)]
        return Block((said, answer), gap, tokens)

    def _listing(self, input: Fields) -> str:
        if not self.list_options:
            return ""
        choices = self.choices
        if self.task.kind is Kind.MULTIPLE_CHOICE and not choices:
            given = input.get("choices")
            if isinstance(given, str) or not isinstance(given, Sequence) or not given:
                raise InvalidInputError(
                    f"the options of a query to task {self.task.name!r} are to be listed, but its input holds no list "
                    "'choices', and none are given; give the query's choices"
                )
            choices = [formatting.value_text(choice) for choice in given]
        return formatting.listing(self.task, choices)
