from . import (
    demonstrations as demonstrations, embeddings as embeddings, gateway as gateway, outcomes as outcomes,
    playground as playground,
    problems as problems,
    retrieval as retrieval,
    shards as shards,
)
from .health import admin as admin, probes as probes
from .playground import HEADERS as HEADERS
from .reference import reference as reference, reference_page as reference_page
from .strict_json import num_values as num_values
from .problems import EMBEDDINGS as EMBEDDINGS, KINDS as KINDS, answer_to as answer_to, problem_of as problem_of
