"""Add this host's bytecode to the program's archive, beside each source.

cron runs the program all day, and Python does not cache the bytecode of modules that it imports from an archive. Another
version of Python ignores this bytecode (zipimport).

usage: add-bytecode.py ARCHIVE PATH    PATH: where the archive will be, for tracebacks
"""

import importlib.util
import marshal
import sys
import zipfile

archive, path = sys.argv[1:]
UNCHECKED_HASH = (0b01).to_bytes(4, "little")  # valid whatever the source's modification time is (PEP 552)

with zipfile.ZipFile(archive, "a") as packed:
    for name in packed.namelist():
        source = packed.read(name)
        code = compile(source, f"{path}/{name}", "exec", dont_inherit=True)
        header = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(source)
        packed.writestr(zipfile.ZipInfo(f"{name}c"), header + marshal.dumps(code))
