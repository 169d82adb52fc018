from .compactor import Compactor as Compactor
from .mirror import Mirror as Mirror
from .scrubber import Scrubber as Scrubber
