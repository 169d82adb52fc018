from .measured import locked_current as locked_current
from .search_settings import (
    SEARCH as SEARCH, SEARCH_TEMPORARY as SEARCH_TEMPORARY, SearchSettings as SearchSettings,
    approximate as approximate, read_settings as read_settings, read_weights as read_weights,
    search_digest as search_digest,
    write_search as write_search, write_settings as write_settings, write_weights as write_weights,
)
from .searchers import (
    open_lexical as open_lexical, open_searcher as open_searcher, open_searchers as open_searchers,
    with_label_heads as with_label_heads,
)
