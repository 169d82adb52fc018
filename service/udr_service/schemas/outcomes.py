"""Bodies and answers about the outcomes of prompts."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from udr.errors import InvalidInputError
from udr.store.usage import MAX_TARGET, PromptOutcome
from udr_service.schemas.body import Body
from udr_service.schemas.requests import refuse_large_batch
from udr_service.schemas.responses import AnswerBody

_Id = Annotated[str, Field(min_length=1, max_length=64, description="The prompt_id of the answer with the prompt.")]
_Score = Annotated[float, Field(ge=0, le=1, description="How good the answer to the prompt was.")]
_Target = Annotated[str, Field(max_length=MAX_TARGET, description="What the answer should have been.")]


class OutcomeBody(Body):
    """What became of a prompt."""

    prompt_id: _Id
    score: _Score
    target: _Target | None = None


class OutcomesBody(Body):
    """What became of a prompt, or of several in ``outcomes``, all or none."""

    prompt_id: _Id | None = None
    score: _Score | None = None
    target: _Target | None = None
    outcomes: Annotated[list[OutcomeBody], BeforeValidator(refuse_large_batch)] = Field(
        default=[], description="At most max_batch, which GET /v1/info tells."
    )

    def to_outcomes(self) -> list[PromptOutcome]:
        """Return the outcomes as the core takes them; ``InvalidInputError`` if there is none, or part of one."""
        given = [*self.outcomes]
        if self.prompt_id is not None and self.score is not None and not given:
            given = [OutcomeBody(prompt_id=self.prompt_id, score=self.score, target=self.target)]
        elif not given or (self.prompt_id, self.score, self.target) != (None, None, None):
            raise InvalidInputError("give the prompt_id and the score of one prompt, or a list of such as outcomes")
        return [PromptOutcome(item.prompt_id, item.score, item.target) for item in given]


class OutcomesAnswer(AnswerBody):
    """How many outcomes are kept."""

    told: int
    replaced: int = Field(description="Those of prompts that had one before; the last one counts.")
