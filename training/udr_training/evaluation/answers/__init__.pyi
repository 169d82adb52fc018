from .predict import AnsweringLM as AnsweringLM, predict as predict
from .predictions import (
    Answer as Answer, AnswerStore as AnswerStore, Cell as Cell, NO_RETRIEVER as NO_RETRIEVER,
    check_claim as check_claim, claim as claim,
)
