from .index_app import create_app as create_app
from .ray_serve import (
    OtherReplicas as OtherReplicas, Replicas as Replicas, gpus_per_replica as gpus_per_replica, replicas as replicas,
)
from .shards_app import create_shards_app as create_shards_app
