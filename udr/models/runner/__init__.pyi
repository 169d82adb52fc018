from .encoders import LoadEncoder as LoadEncoder, ScatteredEncoder as ScatteredEncoder, scattered as scattered
from .options import Node as Node, RunnerOptions as RunnerOptions, share as share
from .ray_workers import cluster_nodes as cluster_nodes, ray_cluster as ray_cluster, ray_workers as ray_workers
from .scheduler import (
    Answer as Answer, Hello as Hello, Lost as Lost, Pool as Pool, QUEUED as QUEUED, Scheduler as Scheduler,
    TRIES as TRIES,
)
from .shards import (
    Done as Done, Failure as Failure, Load as Load, Shard as Shard, failed as failed, shard_key as shard_key,
)
