"""What a criterion is, and those that others have published for choosing texts, from which a search starts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Criterion:
    """What makes one row better than another: a short name, and a text that a model can judge by."""

    name: str
    text: str


KNOWN = (
    Criterion("correctness", "The answer is right for the input, and no statement in it is false."),
    Criterion(
        "completeness", "Nothing that the answer needs is missing: neither row is cut short or leaves a part out."
    ),
    Criterion("clarity", "It is easy to understand at first reading; what words refer to is plain."),
    Criterion("coherence", "Its sentences follow from one another and keep to one subject."),
    Criterion("reasoning", "It shows how the answer is reached, in steps that follow from one another."),
    Criterion("informativeness", "It says much that is specific and worth knowing, and little that is empty."),
    Criterion("instruction following", "The answer does what the instruction asks, in the form that it asks for."),
    Criterion("typicality", "It is a usual case of the task, from which one learns how other cases are solved."),
    Criterion("difficulty", "It takes knowledge or thought to solve; it is not trivial."),
    Criterion("language", "It is well written: grammar, spelling and punctuation are right."),
    Criterion("cleanliness", "It has no remains of other texts: markup, boilerplate, advertising, broken characters."),
    Criterion("brevity", "It says what it has to in few words and repeats nothing."),
)
"""Criteria for the quality of texts and demonstrations that recur in the literature, in our own words."""
