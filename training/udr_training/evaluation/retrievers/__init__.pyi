from .compared import ComparedRetriever as ComparedRetriever, RandomRetriever as RandomRetriever, Shown as Shown
from .names import (
    BM25 as BM25, BUILT_IN as BUILT_IN, ORACLE as ORACLE, RANDOM as RANDOM, index_of as index_of,
    is_service as is_service, model_of as model_of, name_of as name_of, run_of as run_of, short_names as short_names,
    source_of as source_of,
)
from .opening import open_retriever as open_retriever
from .oracle import Oracle as Oracle
from .options import RetrieverName as RetrieverName, parse_name as parse_name, split_unquoted as split_unquoted
from .searching import (
    LocalRetriever as LocalRetriever, SearchRetriever as SearchRetriever, check_query as check_query,
)
from .service import ServiceRetriever as ServiceRetriever
from .sources import IndexSource as IndexSource, PoolSource as PoolSource, Source as Source
