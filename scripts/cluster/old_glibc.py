"""Lets a library load where glibc is older than it says that it needs.

    python old_glibc.py LIBRARY...

Ballista's wheel names glibc 2.39 for two symbols, `pidfd_spawnp` and `pidfd_getpid`. They are weak:
Rust's standard library looks whether they are there, and does without. The version that they belong
to is not marked as weak, and is here, in the library's list of needed versions.
"""

import struct
import sys
from pathlib import Path

VERSION = b"GLIBC_2.39"
NEEDED_VERSIONS = 0x6FFFFFFE  # SHT_GNU_verneed
WEAK = 2  # VER_FLG_WEAK


def weaken(path):
    data = bytearray(path.read_bytes())
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + n * size) for n in range(count)]
    for _, kind, _, _, file, _, link, *_ in sections:
        if kind != NEEDED_VERSIONS:
            continue
        names = sections[link][4]
        while True:
            _, n_versions, _, version, following = struct.unpack_from("<HHIII", data, file)
            version += file
            for _ in range(n_versions):
                _, flags, _, name, step = struct.unpack_from("<IHHII", data, version)
                if data[names + name :].startswith(VERSION + b"\0"):
                    struct.pack_into("<H", data, version + 4, flags | WEAK)
                version += step
            if not following:
                break
            file += following
    path.write_bytes(data)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        weaken(Path(name))
