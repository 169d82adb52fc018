from .index import RemoteIndex as RemoteIndex, local_index as local_index
