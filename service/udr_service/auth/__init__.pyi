from . import keys as keys
from .access import (
    GATEWAY as GATEWAY, PLAYGROUND as PLAYGROUND, Scope as Scope, allowed as allowed,
    from_foreign_page as from_foreign_page, is_own_name as is_own_name, needed as needed, presented as presented,
    refuse_open_address as refuse_open_address,
)
from .grants import Allowance as Allowance, Pools as Pools
from .key_file import KeyFile as KeyFile, append as append
from .keys import (
    PREFIX as PREFIX, KeyEntry as KeyEntry, KeyRing as KeyRing, changes as changes, new_key as new_key,
)
