"""Put the bytecode of this host's Python beside each source in the program's archive: cron runs it all day, and Python keeps
no bytecode of what it imports from an archive. Another version of Python passes it over (zipimport).

usage: add-bytecode.py ARCHIVE PATH    PATH: where the archive will be, for tracebacks
"""

import importlib.util
import marshal
import sys
import zipfile

archive, path = sys.argv[1:]
UNCHECKED_HASH = (0b01).to_bytes(4, "little")  # valid whatever the time of the source says (PEP 552)

with zipfile.ZipFile(archive, "a") as packed:
    for name in packed.namelist():
        source = packed.read(name)
        code = compile(source, f"{path}/{name}", "exec", dont_inherit=True)
        header = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(source)
        packed.writestr(zipfile.ZipInfo(f"{name}c"), header + marshal.dumps(code))
