"""The real Apprise, loaded once for many messages: it takes most of its time to load.

It runs by the Python that Apprise is installed for, with its socket as standard input. Each message is sent by a fork, which has
the arguments, the environment and the files of `CLIENT`, the stand-in for the program.
"""

from __future__ import annotations

import gc
import marshal
import os
import socket
import sys
import traceback

CLIENT = """#!{python} -IS
import _socket, marshal, os, sys
config = next(word for word in sys.argv if word.startswith("--config="))
descriptor = int(config.partition("/fd/")[2].partition("?")[0])
server = _socket.socket(_socket.AF_UNIX)
server.connect({path!r})
passed = b"".join(each.to_bytes(4, sys.byteorder) for each in (0, 1, 2, descriptor))
request = marshal.dumps((sys.argv[1:], dict(os.environ), descriptor))
server.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)])
sys.exit(int(server.recv(9)))
"""


def serve() -> None:
    from apprise.cli import main

    gc.freeze()
    server = socket.socket(fileno=0)
    while True:
        connection, _ = server.accept()
        request, passed, _, _ = socket.recv_fds(connection, 2**16, 4)
        if pid := os.fork():
            connection.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            for descriptor in (connection.detach(), *passed):
                os.close(descriptor)
            continue
        arguments, environment, configuration = marshal.loads(request)
        os.environ.clear()
        os.environ.update(environment)
        for descriptor, number in zip(passed, (0, 1, 2, configuration), strict=True):
            os.dup2(descriptor, number)
        sys.argv[1:] = arguments
        code = 1
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)  # Python's own end takes longer than the message


if __name__ == "__main__":
    serve()
