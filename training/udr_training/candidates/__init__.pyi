from .allocation import allocate as allocate, later_counts as later_counts
from .asked import AskedQuery as AskedQuery, read_asked as read_asked, write_asked as write_asked
from .centring import demonstration_means as demonstration_means, subtracted as subtracted
from .label_scores import LEAST_AGREEMENT as LEAST_AGREEMENT, LabelScores as LabelScores
from .outcomes import ImportedTask as ImportedTask, import_outcomes as import_outcomes
from .proposal import (
    CandidatePool as CandidatePool, Candidates as Candidates, Neighbours as Neighbours,
    bm25_neighbours as bm25_neighbours, encoder_neighbours as encoder_neighbours,
    first_neighbours as first_neighbours, propose as propose, warn_of_long as warn_of_long,
)
from .queries import distinct as distinct
from .ranking import (
    LEAST_PAIRS as LEAST_PAIRS, LEAST_QUERIES as LEAST_QUERIES, Agreement as Agreement, RankedExample as RankedExample,
    agreement as agreement, ndcg as ndcg, rank_all as rank_all, rank_candidates as rank_candidates, ranks as ranks,
    reciprocal_rank as reciprocal_rank,
)
