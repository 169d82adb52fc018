from .app import GROUP as GROUP, application as application, main as main
from .console import (
    check_tokenizers as check_tokenizers, command_group as command_group, expand_options as expand_options,
    names_of as names_of, naming_flags as naming_flags, print_json as print_json, print_text as print_text,
    refuse_unused as refuse_unused,
)
from .help import (
    Command as Command, HelpGroups as HelpGroups, groups_of as groups_of, help_groups as help_groups,
    sections as sections,
)
from .options import (
    AllowHub as AllowHub, AsJson as AsJson, Device as Device, EngineName as EngineName, Fp16 as Fp16,
    IndexDir as IndexDir,
)
from .query import Query as Query
from .status import STATUS as STATUS, Status as Status, duration as duration, meter as meter
from .tables import demonstrations as demonstrations, table as table
