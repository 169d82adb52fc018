from .bootstrap import RESAMPLES as RESAMPLES, bootstrap_t as bootstrap_t, draws as draws
from .estimate import EXPLANATION as EXPLANATION, Estimate as Estimate, estimate as estimate, mean as mean
from .proportions import Z as Z, paired as paired, wilson as wilson
from .sample_size import rows_missing as rows_missing
