from .encoders import (
    LoadEncoder as LoadEncoder, ScatteredEncoder as ScatteredEncoder, encode_by_length as encode_by_length,
    encode_checked as encode_checked, scattered as scattered,
)
from .options import Node as Node, RunnerOptions as RunnerOptions, share as share
from .process_pool import ProcessPool as ProcessPool
from .ray_workers import cluster_nodes as cluster_nodes, ray_cluster as ray_cluster
from .scheduler import (
    Answer as Answer, Hello as Hello, Lost as Lost, Pool as Pool, QUEUED as QUEUED, Scheduler as Scheduler,
    TRIES as TRIES,
)
from .shards import (
    Done as Done, Failure as Failure, Load as Load, Shard as Shard, failed as failed, shard_key as shard_key,
)
from .workers import open_workers as open_workers
