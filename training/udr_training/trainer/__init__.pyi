from .callbacks import MetricsLog as MetricsLog, WithoutCard as WithoutCard, add_callbacks as add_callbacks
from .checkpoints import last_complete as last_complete
from .dataset import (
    TaskExamples as TaskExamples, centred as centred, dataset as dataset, split as split,
)
from .evaluator import RankValidation as RankValidation, validation_similarities as validation_similarities
from .model import has_two_towers as has_two_towers, merge_adapters as merge_adapters, starting_model as starting_model
from .model_card import write_card as write_card
from .sampler import (
    TaskBatchSampler as TaskBatchSampler, draw_candidates as draw_candidates, task_probabilities as task_probabilities,
)
from .sharing import (
    SharedTraining as SharedTraining, Shards as Shards, check_processes as check_processes, follow as follow,
    leading as leading, train_on as train_on,
)
from .train import (
    check_optimizer as check_optimizer, num_steps as num_steps, shared_arguments as shared_arguments,
    train_encoder as train_encoder,
)
