"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Whether something has to be done: nothing, perhaps something, or something before udr works."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked at.
        found: what was found, in one line.
        remedy: what to do; empty if there is nothing to do.
        state: how bad it is.
    """

    check: str
    found: str
    remedy: str = ""
    state: State = State.OK

    def lines(self) -> list[str]:
        """Return the finding as a person reads it."""
        return [
            f"{self.state:<8} {self.check:<12} {self.found}",
            *([f"{'':<21} -> {self.remedy}"] if self.remedy else []),
        ]


def ok(check: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(check=check, found=found)


def note(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that only some need to act on."""
    return Finding(check=check, found=found, remedy=remedy, state=State.NOTE)


def problem(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that stops udr, or a part of it."""
    return Finding(check=check, found=found, remedy=remedy, state=State.PROBLEM)
