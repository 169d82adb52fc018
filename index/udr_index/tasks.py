"""The command ``udr tasks``: ``check``, ``stats`` and ``split``."""

from udr_index.quality import app
from udr_index.splitting import split

app.command()(split)
