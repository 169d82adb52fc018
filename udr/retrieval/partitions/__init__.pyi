from .partitions import Partitions as Partitions
from .ranking import SearchResult as SearchResult
