from .pair_scores import (
    Progress as Progress, score_pack as score_pack, score_pairs as score_pairs, stored_scores as stored_scores,
)
from .scorers import (
    FeedbackLM as FeedbackLM, PackShard as PackShard, PackingLM as PackingLM, PairScorer as PairScorer,
    ScatteredLM as ScatteredLM, ScoredPack as ScoredPack,
)
from .values import (
    answer_score as answer_score, as_likelihoods as as_likelihoods, option_values as option_values,
    pair_score as pair_score, score as score,
)
