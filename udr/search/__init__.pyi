from .approximate import RankedProposals as RankedProposals
from .arrays import open_array as open_array, refuse_truncated as refuse_truncated
from .base import (
    DECIMALS as DECIMALS, Hit as Hit, Mask as Mask, Metric as Metric, Positions as Positions, Proposer as Proposer,
    ProposerAmong as ProposerAmong, RRF_CONSTANT as RRF_CONSTANT,
    Searcher as Searcher, Similarities as Similarities, Vectors as Vectors, fuse as fuse, nearest as nearest,
    order as order, products as products,
)
from .exact import ExactProposals as ExactProposals, ExactSearch as ExactSearch
from .faiss_cpu import (
    FaissSearch as FaissSearch, empty_index as empty_index, faiss_build as faiss_build,
    float16_proposer as float16_proposer,
    make_index as make_index, open_index as open_index, proposer as proposer,
    proposer_among as proposer_among, set_parameters as set_parameters,
    write_index as write_index,
)
from .faiss_gpu import FaissGpu as FaissGpu, MOST as MOST, MOST_OF_GRAPH as MOST_OF_GRAPH, find_gpu as find_gpu
from .filtered import compare as compare, SCANNED_ROWS as SCANNED_ROWS
from .label_head import (
    Chances as Chances, ExactLabelled as ExactLabelled, FIELD_FEATURES as FIELD_FEATURES, LabelHead as LabelHead,
    LabelledSearch as LabelledSearch, LabelledVectors as LabelledVectors, PASSES as PASSES,
    head_features as head_features, label_chances as label_chances, unit_vectors as unit_vectors,
)
from .lexical import (
    BM25Search as BM25Search, LOWER as LOWER, OVERLAP as OVERLAP, RULE as RULE, RULES as RULES, WordQuery as WordQuery,
    WordSearch as WordSearch, folded as folded, overlapping as overlapping, spaced as spaced,
    weigh as weigh,
)
from .regression import can_fit as can_fit, fit_weights as fit_weights, folds_of as folds_of
