from . import scoring as scoring
from .export import exported as exported
from .lm import is_remote as is_remote, load_lm as load_lm, load_local as load_local
from .pairs import (
    Pair as Pair, candidate_pairs as candidate_pairs, cut_longest as cut_longest, pair_prompt as pair_prompt,
    pair_text as pair_text, prompt_of as prompt_of,
)
from .run import FeedbackRun as FeedbackRun, Report as Report, Scores as Scores
from .scoring import (
    FeedbackLM as FeedbackLM, Progress as Progress, option_values as option_values, pair_score as pair_score,
    score as score, score_pairs as score_pairs,
)
from .store import FeedbackStore as FeedbackStore, PairKey as PairKey, Work as Work
from .task import TrainingTask as TrainingTask
