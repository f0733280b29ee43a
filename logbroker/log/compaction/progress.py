"""How far a log is compacted: the file ``compacted``.

Content (big endian): magic ``LBCO`` 4, version u16, zero u16, offset i64, CRC-32C of all before u32. Below the offset
every key was seen by a pass. Where the file is missing or not whole the log counts as not compacted, and is gone through
again.
"""

import struct

from crc32c import crc32c

from logbroker.log.files import replace_atomically
from logbroker.log.names import COMPACTED
from logbroker.log.place import Place

_BODY = struct.Struct(">4sHxxq")
_CRC = struct.Struct(">I")
_MAGIC = b"LBCO"
_VERSION = 1


def load_compacted(place: Place) -> int:
    """The offset; 0 where nobody knows. Raises StorageError."""
    path = place.at(COMPACTED)
    if not place.files.exists(path):
        return 0
    file = place.files.open(path)
    try:
        data = file.pread(_BODY.size + _CRC.size, 0)
    finally:
        file.close()
    body = data[: _BODY.size]
    if len(data) < _BODY.size + _CRC.size or data[_BODY.size :] != _CRC.pack(crc32c(body)):
        return 0
    magic, version, offset = _BODY.unpack(body)
    return offset if (magic, version) == (_MAGIC, _VERSION) else 0


def store_compacted(place: Place, offset: int) -> None:
    """Store the offset, durably with all that was renamed before. Raises StorageError."""
    body = _BODY.pack(_MAGIC, _VERSION, offset)
    replace_atomically(place.files, place.at(COMPACTED), body + _CRC.pack(crc32c(body)))
