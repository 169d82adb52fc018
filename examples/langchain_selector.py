"""udr in LangChain: demonstrations for each request, in a text prompt and in a chat prompt.

    python examples/langchain_selector.py

Indexes the example tasks, then answers two requests. The language models are stand-ins that need no network: one
repeats the answer of the last example, the other answers from a script. Replace them with your own.
"""

import argparse
import asyncio
from pathlib import Path

from langchain_core.language_models import FakeListChatModel
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import ChatPromptTemplate, FewShotChatMessagePromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda

from udr import Retriever
from udr.integrations import DemonstrationSelector, VerbatimFewShotPromptTemplate
from udr.models import DEFAULT_ENCODER
from udr_index.build import BuildConfig, build

HERE = Path(__file__).parent
INSTRUCTION = "Give the intent of the request to a home assistant."


def answer_of_the_last_example(prompt: PromptValue) -> str:
    return prompt.to_string().split("Intent: ")[-1].partition("\n")[0]


async def main() -> None:
    parser = argparse.ArgumentParser(description="Answer two requests in LangChain, with demonstrations from udr.")
    parser.add_argument("--index", type=Path, default=HERE.parent / "demo-index", help="where the index is built")
    index = parser.parse_args().index
    build(BuildConfig(tasks=HERE / "tasks", model=DEFAULT_ENCODER, out=index))

    with Retriever.open(index) as retriever:
        selector = DemonstrationSelector(retriever, task="home_assistant", k=4)

        text = VerbatimFewShotPromptTemplate(
            example_selector=selector,
            example_prompt=PromptTemplate.from_template("Request: {request}\nIntent: {target}"),
            prefix=INSTRUCTION,
            suffix="Request: {request}\nIntent:",
        )
        request = {"request": "turn the bedroom lamp on, please"}
        print(text.format(**request))
        print("->", (text | RunnableLambda(answer_of_the_last_example)).invoke(request), end="\n\n")

        turns = FewShotChatMessagePromptTemplate(
            input_variables=["request"],
            example_selector=selector,
            example_prompt=ChatPromptTemplate.from_messages([("human", "{request}"), ("ai", "{target}")]),
        )
        chat = ChatPromptTemplate.from_messages([("system", INSTRUCTION), turns, ("human", "{request}")])
        request = {"request": "wake me at six"}
        print((await chat.ainvoke(request)).to_string())
        print("->", (await (chat | FakeListChatModel(responses=["set alarm"])).ainvoke(request)).content)


if __name__ == "__main__":
    asyncio.run(main())
