from .difference import (
    MOST_BYTES as MOST_BYTES, merged as merged, write_difference as write_difference,
)
from .language_models import locate_lm as locate_lm, refuse_encoder as refuse_encoder
from .names import (
    BASE_ENCODER as BASE_ENCODER, DEFAULT_ENCODER as DEFAULT_ENCODER, DEFAULT_LM as DEFAULT_LM,
    DIFFERENCE as DIFFERENCE, PACKAGE as PACKAGE, absolute as absolute, cache_folder as cache_folder,
    converted_gguf as converted_gguf, fingerprint as fingerprint, is_hub_name as is_hub_name, is_local as is_local,
    locate as locate, locate_encoder as locate_encoder,
)
