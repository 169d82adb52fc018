"""What answers may cost, and what they have cost: requests, tokens and money."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass

from udr.errors import ConfigError, FeedbackError
from udr_training.answering.server.address import is_remote

_MILLION = 1_000_000

UNIT = "in the unit of --prices"
"""What follows a cost: prices are given without a currency."""


class BudgetError(FeedbackError):
    """A budget does not allow another request."""


@dataclass(frozen=True, slots=True)
class Spend:
    """What answers have cost.

    Attributes:
        requests: sent, failed ones included.
        prompt_tokens: of the prompts answered.
        completion_tokens: of the answers.
        estimated: answers whose tokens the server did not count, so that they are estimated.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0

    def __add__(self, other: "Spend") -> "Spend":
        return Spend(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @property
    def tokens(self) -> int:
        """The tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The most that all answers in a directory may cost, those of earlier calls included; None for no limit.

    Attributes:
        max_requests: requests sent, failed ones included.
        max_tokens: tokens of prompts and answers.
        max_cost: money, in the currency of the prices.
        prices: of a million tokens of prompts, and of answers.

    Raises:
        ConfigError: a number is out of range, or a cost has no prices.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    prices: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        limits = {"max-requests": self.max_requests, "max-tokens-total": self.max_tokens, "max-cost": self.max_cost}
        for name, limit in limits.items():
            if limit is not None and not 0 <= limit < math.inf:
                raise ConfigError(f"--{name} must be at least 0, found {limit}")
        if self.prices is not None and not all(0 <= price < math.inf for price in self.prices):
            raise ConfigError(f"--prices must be at least 0, found {self.prices[0]:g},{self.prices[1]:g}")
        if self.max_cost is not None and self.prices is None:
            raise ConfigError("--max-cost needs --prices IN,OUT: those of a million tokens of prompts and of answers")

    @staticmethod
    def read(
        lm: str, max_requests: int | None, max_tokens: int | None, max_cost: float | None, prices: str | None
    ) -> "Budget":
        """Return the budget of options for a language model of this name; the prices are ``IN,OUT``."""
        given = {
            "--max-requests": max_requests,
            "--max-tokens-total": max_tokens,
            "--max-cost": max_cost,
            "--prices": prices,
        }
        if not is_remote(lm) and (options := [option for option, value in given.items() if value is not None]):
            raise ConfigError(f"{options[0]} needs the address of a server as --lm; found {lm!r}")
        pair = None
        if prices is not None:
            try:
                price_in, price_out = map(float, prices.split(","))
            except ValueError as error:
                expected = "--prices must be IN,OUT: those of a million tokens of prompts and of answers, as 0.15,0.6"
                raise ConfigError(f"{expected}; found {prices!r}") from error
            pair = price_in, price_out
        return Budget(max_requests=max_requests, max_tokens=max_tokens, max_cost=max_cost, prices=pair)

    def cost(self, spend: Spend) -> float:
        """Return the cost of tokens; 0 without prices."""
        price_in, price_out = self.prices or (0.0, 0.0)
        return (spend.prompt_tokens * price_in + spend.completion_tokens * price_out) / _MILLION

    def exceeded_by(self, spend: Spend) -> str | None:
        """Return the option that a spend exceeds, with its value; None if none."""
        if self.max_requests is not None and spend.requests > self.max_requests:
            return f"--max-requests {self.max_requests:,}"
        if self.max_tokens is not None and spend.tokens > self.max_tokens:
            return f"--max-tokens-total {self.max_tokens:,}"
        if self.max_cost is not None and self.cost(spend) > self.max_cost:
            return f"--max-cost {self.max_cost:g}"
        return None

    @property
    def counts_tokens(self) -> bool:
        """Whether a limit counts the tokens of answers."""
        return (self.max_tokens, self.max_cost) != (None, None)

    def refusal(self, spend: Spend, most: Spend) -> str | None:
        """Return why a request that may cost ``most`` is not allowed after a spend; None if it is."""
        option = self.exceeded_by(spend + most)
        if option is None or self.exceeded_by(Spend(spend.requests + most.requests)):
            return option and f"{option} is reached"
        if self.max_tokens is not None and (spend + most).tokens > self.max_tokens:
            left, next_one = f"{max(0, self.max_tokens - spend.tokens):,}", f"{most.tokens:,} tokens"
        else:
            left = f"{max(0.0, (self.max_cost or 0.0) - self.cost(spend)):.4g}"
            next_one = f"{self.cost(most):.4g} {UNIT}"
        return f"{option} has {left} left, and the next request may cost up to {next_one}"

    def shown(self, spend: Spend) -> str:
        """Return a spend in words."""
        requests = f"{spend.requests:,} request{'' if spend.requests == 1 else 's'}"
        cost = [f"cost {self.cost(spend):.4g} {UNIT}"] if self.prices else []
        return ", ".join([requests, f"{spend.tokens:,} tokens", *cost])


class Purse:
    """Holds open requests to a budget, which they never exceed together; for one event loop.

    Args:
        budget: the budget.
        spend: what has been spent before.

    Attributes:
        spend: what has been spent, without what is reserved.
    """

    def __init__(self, budget: Budget, spend: Spend) -> None:
        self._budget, self.spend = budget, spend
        self._reserved = Spend()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserved(self, most: Spend, note: Callable[[], str] = str) -> AsyncIterator[None]:
        """Reserve the most that a request can cost, while it is open; waits for other requests to cost less.

        Args:
            most: that it can cost.
            note: returns what an error says of the requests that failed, and of the answers.

        Raises:
            BudgetError: the budget does not allow it, even if no other request is open.
        """
        async with self._changed:
            while refusal := self._budget.refusal(self.spend + self._reserved, most):
                if self._reserved == Spend():
                    raise BudgetError(
                        f"{refusal}: spent {self._budget.shown(self.spend)}{note()}; raise it, and run the same "
                        "command to go on"
                    )
                await self._changed.wait()
            self._reserved += most
        try:
            yield
        finally:
            async with self._changed:
                self._reserved = Spend(
                    *(old - own for old, own in zip(astuple(self._reserved), astuple(most), strict=True))
                )
                self._changed.notify_all()

    def pay(self, spend: Spend) -> None:
        """Add to what has been spent."""
        self.spend += spend
