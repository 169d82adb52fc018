from .bounded import BoundedServer as BoundedServer
from .connections import Limits as Limits, OpenConnections as OpenConnections, Place as Place
from .run import listening as listening, run as run
from .turns import Starts as Starts, TurnSelector as TurnSelector
