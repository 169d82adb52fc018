"""udr in DSPy: a program that shows each call its own demonstrations, saved and reopened.

    python examples/dspy_program.py

Indexes the example tasks, then answers two requests. The language model is a stand-in with scripted answers that needs
no network: replace it with ``dspy.LM(...)``.
"""

import argparse
import tempfile
from pathlib import Path

import dspy
from dspy.utils import DummyLM

from udr import Retriever
from udr.integrations import DemonstrationFewShot, open_program
from udr.models import DEFAULT_ENCODER
from udr_index.build import BuildConfig, build

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer two requests in DSPy, with demonstrations from udr.")
    parser.add_argument("--index", type=Path, default=HERE.parent / "demo-index", help="where the index is built")
    index = parser.parse_args().index
    build(BuildConfig(tasks=HERE / "tasks", model=DEFAULT_ENCODER, out=index))

    lm = DummyLM([{"intent": "turn on lights"}, {"intent": "set alarm"}])
    student = dspy.Predict(dspy.Signature("request -> intent", "Give the intent of the request to a home assistant."))

    with tempfile.TemporaryDirectory() as folder, Retriever.open(index) as retriever, dspy.context(lm=lm):
        saved = Path(folder) / "program.json"
        program = DemonstrationFewShot(retriever, task="home_assistant", k=4, target="intent").compile(student)
        program.save(saved)
        print("->", program(request="turn the bedroom lamp on, please").intent)

        reopened = open_program(student, saved)
        print("->", reopened(request="wake me at six").intent, end="\n\n")

    for call in lm.history:
        for message in call["messages"][1:]:
            print(f"{message['role']}: {message['content'].partition(' ## ]]')[2].strip().partition(chr(10))[0]}")
        print()
    print(f"{len(lm.history)} calls of the language model for 2 requests")


if __name__ == "__main__":
    main()
