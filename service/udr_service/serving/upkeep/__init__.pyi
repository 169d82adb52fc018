from .compactor import Compactor as Compactor
from .scrubber import Scrubber as Scrubber
