from .merging import ShardedPlan as ShardedPlan
from .placements import Placement as Placement, Placements as Placements, read_placements as read_placements
from .sharded_client import ShardedClient as ShardedClient
