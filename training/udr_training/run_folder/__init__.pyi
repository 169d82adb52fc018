from .folder import RUN_FORMAT as RUN_FORMAT, RunFolder as RunFolder
from .working_copy import (
    CONTENTS as CONTENTS, MARKS as MARKS, contents as contents, upload_copy as upload_copy, url_of as url_of,
    working_copy as working_copy,
)
