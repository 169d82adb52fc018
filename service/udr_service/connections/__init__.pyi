from .acceptor import Acceptor as Acceptor
from .open import Limits as Limits, OpenConnections as OpenConnections, Place as Place
from .protocol import Connection as Connection
from .server import BoundedServer as BoundedServer
