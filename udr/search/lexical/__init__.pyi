from .bm25 import BM25Search as BM25Search
from .weighing import WordQuery as WordQuery, WordSearch as WordSearch, weigh as weigh
from .word_overlap import OVERLAP as OVERLAP, overlapping as overlapping
from .words import LOWER as LOWER, RULE as RULE, RULES as RULES, folded as folded, spaced as spaced
