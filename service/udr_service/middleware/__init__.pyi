from .access import Access as Access
from .admission import Admission as Admission, Queue as Queue
from .body import BodyLimit as BodyLimit
from .head import HeadAsGet as HeadAsGet
from .recorder import REQUEST_ID as REQUEST_ID, Recorder as Recorder, SERVER_TIMING as SERVER_TIMING
from .root_path import RootPath as RootPath
