from .auth import Access as Access
from .body import BodyLimit as BodyLimit
from .hosts import TrustedHosts as TrustedHosts
from .recorder import Recorder as Recorder
