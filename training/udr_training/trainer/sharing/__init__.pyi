from .checks import check_processes as check_processes
from .processes import train_on as train_on
from .shards import Shards as Shards
from .shared_training import SharedTraining as SharedTraining
from .tensor_parallel import check_plan as check_plan
from .torchrun import follow as follow, leading as leading
