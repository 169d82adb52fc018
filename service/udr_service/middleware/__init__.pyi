from .access import Access as Access, TrustedHosts as TrustedHosts
from .body import BodyLimit as BodyLimit
from .recorder import Recorder as Recorder
