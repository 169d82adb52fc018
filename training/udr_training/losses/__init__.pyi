from .candidate_loss import CandidateLoss as CandidateLoss
from .functional import (
    hardest_only as hardest_only, in_batch_loss as in_batch_loss, kl_loss as kl_loss, lambda_loss as lambda_loss,
    listwise_loss as listwise_loss, margin_mse_loss as margin_mse_loss, near_best as near_best,
    not_negatives as not_negatives, ranks_of as ranks_of,
)
from .length_batching import embed as embed
from .process_group import (
    agreed as agreed, average_gradients as average_gradients, data_mesh as data_mesh, data_rank as data_rank,
    data_size as data_size, form_tensor_groups as form_tensor_groups, gathered as gathered,
    joined_in_tensor_group as joined_in_tensor_group, num_processes as num_processes, process_number as process_number,
    sum_in_tensor_group as sum_in_tensor_group, tensor_rank as tensor_rank, tensor_size as tensor_size,
    wait_for_all as wait_for_all,
)
