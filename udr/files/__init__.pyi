from .copies import cache_folder as cache_folder, fetched as fetched
from .formats import canonical_json as canonical_json, check_format as check_format, sha256 as sha256
from .locking import IN_USE as IN_USE, locked as locked, open_lock as open_lock
from .places import (
    expanded as expanded, refuse_existing as refuse_existing, refuse_remote as refuse_remote, remote_url as remote_url,
)
from .reading import LFS as LFS, lfs_pointer as lfs_pointer, read_bytes as read_bytes, read_text as read_text
from .remote import RemoteFolder as RemoteFolder
from .toml import parse_toml as parse_toml, read_toml as read_toml
from .writing import (
    first_to_finish as first_to_finish, fresh_folder as fresh_folder, let_others_read as let_others_read,
    refuse_link as refuse_link, shown_as as shown_as, sync as sync, sync_tree as sync_tree,
    whole_folder as whole_folder, write_atomically as write_atomically,
)
