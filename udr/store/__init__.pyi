from . import version as version
from .manifest import (
    DTYPES as DTYPES, Dtype as Dtype, EncoderStamp as EncoderStamp, FIELDS_FORMAT as FIELDS_FORMAT, FLAT as FLAT,
    FORMAT as FORMAT,
    FileStamp as FileStamp, LabelHeadStamp as LabelHeadStamp,
    Manifest as Manifest, Partition as Partition, TokenizerStamp as TokenizerStamp,
    definition as definition, parse_manifest as parse_manifest, seal as seal,
)
from .one_pool import pool_manifest as pool_manifest, write_pool as write_pool
from .own_encoder import (
    encoder_name as encoder_name, exported_encoder as exported_encoder, named_encoder as named_encoder,
    refuse_pickles as refuse_pickles,
)
from .remote import RemoteIndex as RemoteIndex, local_index as local_index
from .rows import (
    DemonstrationTable as DemonstrationTable, Matcher as Matcher, SCHEMA as SCHEMA, check_kinds as check_kinds,
    record as record,
)
from .searching import (
    SEARCH as SEARCH, SEARCH_TEMPORARY as SEARCH_TEMPORARY, SearchSettings as SearchSettings,
    approximate as approximate, read_settings as read_settings, read_weights as read_weights,
    search_digest as search_digest, locked_current as locked_current,
    write_search as write_search, write_settings as write_settings, write_weights as write_weights,
)
from .searching import (
    open_lexical as open_lexical, open_searcher as open_searcher, open_searchers as open_searchers,
    with_label_heads as with_label_heads,
)
from .untrusted import (
    MOST_LABELS as MOST_LABELS, VERSION_NAME as VERSION_NAME,
    bounded as bounded, check_manifest as check_manifest, check_schema as check_schema,
    distrust as distrust, open_read_only as open_read_only,
    read_only_uri as read_only_uri, refuse_outside as refuse_outside,
)
from .verification import (
    COMPACTING as COMPACTING, Finding as Finding, LEFTOVER as LEFTOVER,
    refuse_damage as refuse_damage, verify as verify, verify_version as verify_version, verifying as verifying,
)
from .version import (
    CODES as CODES, COPY_OF as COPY_OF, CURRENT as CURRENT, DEMONSTRATIONS as DEMONSTRATIONS, ENCODER as ENCODER,
    IndexVersion as IndexVersion, LIVE as LIVE, MANIFEST as MANIFEST, MODEL as MODEL, VERSIONS as VERSIONS,
    WEIGHTS as WEIGHTS,
    bm25_path as bm25_path, copied_from as copied_from, find_current as find_current,
    index_path as index_path, is_index as is_index, label_head_path as label_head_path,
    open_version as open_version, publish as publish, read_current as read_current, read_manifest as read_manifest,
    refuse_wording as refuse_wording,
    vectors_path as vectors_path, version_path as version_path,
)
