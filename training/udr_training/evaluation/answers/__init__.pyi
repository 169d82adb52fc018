from .models import AnsweringModel as AnsweringModel, LocalModel as LocalModel
from .opening import ANSWERS as ANSWERS, ModelOptions as ModelOptions
from .predict import AnsweringLM as AnsweringLM, predict as predict
from .predictions import (
    Answer as Answer, AnswerStore as AnswerStore, Answering as Answering, Cell as Cell, NO_RETRIEVER as NO_RETRIEVER,
    check_claim as check_claim, claim as claim,
)
from .server_model import ServerModel as ServerModel
