from .bounded import BoundedServer as BoundedServer
from .connections import Limits as Limits
from .starts import Starts as Starts
from .run import listening as listening, run as run
