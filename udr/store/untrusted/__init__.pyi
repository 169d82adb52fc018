from .containment import Contained as Contained, refuse_outside as refuse_outside, root_of as root_of
from .manifest_check import (
    MOST_LABELS as MOST_LABELS, VERSION_NAME as VERSION_NAME, check_manifest as check_manifest,
    vectors_fit as vectors_fit,
)
from .sqlite_file import (
    bounded as bounded, check_schema as check_schema, distrust as distrust, open_read_only as open_read_only,
    read_only_uri as read_only_uri,
)
