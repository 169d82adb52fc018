from .copies import cache_folder as cache_folder, fetched as fetched
from .local import (
    IN_USE as IN_USE, LFS as LFS, canonical_json as canonical_json, check_format as check_format,
    first_to_finish as first_to_finish, lfs_pointer as lfs_pointer, locked as locked, parse_toml as parse_toml,
    read_bytes as read_bytes, read_text as read_text, read_toml as read_toml,
    sha256 as sha256, sync as sync, sync_tree as sync_tree, whole_folder as whole_folder,
    write_atomically as write_atomically,
)
from .places import refuse_existing as refuse_existing, refuse_remote as refuse_remote, remote_url as remote_url
from .remote import RemoteFolder as RemoteFolder
