from .folder import RUN_FORMAT as RUN_FORMAT, RunFolder as RunFolder
from .remote import CONTENTS as CONTENTS, local_run as local_run, upload_run as upload_run
