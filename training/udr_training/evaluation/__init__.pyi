from .answers import (
    Answer as Answer, AnswerStore as AnswerStore, Cell as Cell, check_claim as check_claim, predict as predict,
)
from .after_training import evaluation_command as evaluation_command, prove as prove
from .config import (
    EvaluationConfig as EvaluationConfig, FOLDER as FOLDER, RowCounts as RowCounts,
    check_retrievers as check_retrievers, check_tasks as check_tasks, count_rows as count_rows,
    how_to_split as how_to_split, how_to_use_more as how_to_use_more, untested as untested,
)
from .evaluate import evaluate as evaluate, task_estimate as task_estimate
from .forecast import Forecast as Forecast, forecast as forecast
from .intervals import (
    Estimate as Estimate, RESAMPLES as RESAMPLES, bootstrap_t as bootstrap_t, draws as draws, estimate as estimate,
    mean as mean, paired as paired, rows_missing as rows_missing, wilson as wilson,
)
from .requests import RequestPlan as RequestPlan, plan_requests as plan_requests
from .results import Evaluation as Evaluation, TaskResult as TaskResult
from .retrievers import (
    BM25 as BM25, ComparedRetriever as ComparedRetriever, ORACLE as ORACLE, Oracle as Oracle, RANDOM as RANDOM,
    RetrieverName as RetrieverName, Shown as Shown, model_of as model_of, open_retriever as open_retriever,
    parse_name as parse_name, run_of as run_of, short_names as short_names,
)
from .verdict import Outcome as Outcome, Verdict as Verdict, judge_gain as judge_gain, verdict as verdict
