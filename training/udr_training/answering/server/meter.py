"""Meters what requests cost, over all calls with the same file, and holds them to a budget."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from udr_training.answering.server.budget import Budget, BudgetError, Purse, Spend
from udr_training.answering.server.paid import PaidAnswers


class Meter:
    """The spend of one command, and of those before it.

    Args:
        budget: the most that may be spent.
        paid: keeps what has been spent.

    Attributes:
        spend: what this command has spent.
    """

    def __init__(self, budget: Budget, paid: PaidAnswers) -> None:
        self._budget, self._paid = budget, paid
        self._purse: Purse | None = None
        self._failed, self._problem = 0, ""
        self.spend = Spend()

    @property
    def spent(self) -> str:
        """What has been spent, in words."""
        return self._budget.shown(self._paid.spend)

    def start(self) -> None:
        """Begin to meter the requests of an event loop, in which this is called, in a turn of ``PaidAnswers``."""
        self._purse = Purse(self._budget, self._paid.spend)

    def on_send(self, problem: str = "") -> None:
        """Count a request, which a server may charge for even if it fails.

        Args:
            problem: why the attempt before failed; empty at the first attempt.

        Raises:
            BudgetError: earlier attempts have used up the requests.
        """
        if problem:
            self._failed, self._problem = self._failed + 1, problem
        if option := self._budget.exceeded_by(Spend(self._started.spend.requests + 1)):
            raise BudgetError(
                f"{option} is reached by attempts that failed{self._cause}; check the server, or raise it, and run "
                "the same command to go on"
            )
        self.pay(Spend(1))

    @asynccontextmanager
    async def reserved(self, prompt_tokens: int, completion_tokens: int) -> AsyncIterator[None]:
        """Reserve the most that a request can cost, while it is open; errors as ``Purse.reserved``."""
        most = Spend(1, prompt_tokens, completion_tokens)
        async with self._started.reserved(most, self._note):
            yield

    def pay(self, spend: Spend, *, kept: bool = False) -> None:
        """Add the tokens of an answer; ``kept`` if they are in the file already, beside the answer."""
        if not kept:
            self._paid.add(spend)
        self._started.pay(spend)
        self.spend += spend

    def _note(self) -> str:
        failed = f", {self._failed:,} of them failed{self._cause}" if self._failed else ""
        return f"{failed}; {self._paid.kept}"

    @property
    def _cause(self) -> str:
        return f", the last with: {self._problem}" if self._problem else ""

    @property
    def _started(self) -> Purse:
        assert self._purse is not None, "requests are metered after start"
        return self._purse
