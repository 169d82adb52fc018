"""The commands of the group ``udr index``, in the order of its help."""

from udr.cli import command_group
from udr_index.cli.bench import bench
from udr_index.cli.build import build
from udr_index.cli.info import info
from udr_index.cli.verify import verify
from udr_index.versions import add_commands
from udr_index.versions.live import add_commands as add_live_commands

app = command_group("Build indexes of demonstrations, and manage their versions.")
for command in (build, verify, bench, info):
    app.command()(command)
add_commands(app)
add_live_commands(app)
