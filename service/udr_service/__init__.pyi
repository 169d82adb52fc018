from .app import create_app as create_app
from .errors import ListenError as ListenError, NotReadyError as NotReadyError
from .openapi import description as description
from .server import listening as listening, run as run
from .settings import Settings as Settings
