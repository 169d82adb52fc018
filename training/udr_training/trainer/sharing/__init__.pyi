from .processes import check_processes as check_processes, train_on as train_on
from .shared_training import SharedTraining as SharedTraining, shard as shard
from .torchrun import follow as follow, leading as leading
