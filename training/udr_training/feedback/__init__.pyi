from .checks import (
    check_lm as check_lm, check_run as check_run, check_runner as check_runner, loads_lm as loads_lm,
)
from .local import load_local as load_local, opened_lm as opened_lm
from .export import exported as exported
from .pairs import (
    Pair as Pair, TrainingTask as TrainingTask, candidate_pairs as candidate_pairs, pair_keys as pair_keys,
    pair_prompt as pair_prompt,
)
from .prompts import LMTokenizer as LMTokenizer, cut_longest as cut_longest, prompt_of as prompt_of
from .run import (
    FeedbackRun as FeedbackRun, OnProgress as OnProgress, Scores as Scores, load_lm as load_lm,
)
from .scoring import (
    ScatteredLM as ScatteredLM,
    FeedbackLM as FeedbackLM, PairScorer as PairScorer, Progress as Progress, option_values as option_values,
    pair_score as pair_score, score as score, score_pairs as score_pairs,
)
from .store import FeedbackStore as FeedbackStore, PairKey as PairKey, Work as Work
from .weighing import (
    ASKED_WEIGHTS as ASKED_WEIGHTS, WEIGHTS as WEIGHTS, SetQuestion as SetQuestion, Weighed as Weighed,
    best_weight as best_weight, watched as watched, weigh as weigh,
)
