from .auth import Access as Access
from .body import WholeBody as WholeBody
from .hosts import OwnNames as OwnNames
from .recorder import Recorder as Recorder
