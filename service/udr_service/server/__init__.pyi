from .bounded import BoundedServer as BoundedServer
from .connections import Limits as Limits, OpenConnections as OpenConnections, Place as Place
from .selector import TurnSelector as TurnSelector
from .starts import Starts as Starts
from .run import listening as listening, run as run
