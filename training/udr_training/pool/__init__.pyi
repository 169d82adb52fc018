from .coherence import coherence_score as coherence_score
from .copies import copy_score as copy_score
from .curation import (
    Choice as Choice, DROPPED as DROPPED, Dropped as Dropped, choose as choose, write_curated as write_curated,
)
from .labels import label_score as label_score
from .length import length_score as length_score
from .scores import Score as Score, read_scores as read_scores, write_scores as write_scores
from .scoring import (
    COHERENCE as COHERENCE, CRITERIA as CRITERIA, WAYS as WAYS, check_ways as check_ways, score_pool as score_pool,
)
