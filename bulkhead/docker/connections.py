"""Whether a process is connected to another one through a UNIX socket."""

from __future__ import annotations

import os
import socket
import struct

from bulkhead import procfs

_SOCK_DIAG = 4  # of netlink: NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # type of a message: SOCK_DIAG_BY_FAMILY
_REQUEST = 1  # NLM_F_REQUEST
_SHOW_PEER = 4  # UDIAG_SHOW_PEER
_PEER = 2  # UNIX_DIAG_PEER
_ANY = 0xFFFFFFFF  # state, or half of a cookie
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, number, sender
_QUERY = struct.Struct("=BBHIIIII")  # struct unix_diag_req: family, protocol, 0, states, inode, what to show, cookie
_ANSWER = struct.Struct("=BBBBIII")  # struct unix_diag_msg: family, type, state, 0, inode, cookie
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type


def is_connected(client: int, server: int) -> bool | None:
    """Return whether a process is connected to a server of this host; None if that cannot be seen.

    Args:
        client: PID.
        server: PID; 0: it is not known.
    """
    try:
        if procfs.namespace(client, "net") != procfs.namespace("self", "net"):
            return None
        ours, theirs = procfs.sockets(client), procfs.sockets(server)
        return not _peers(ours).isdisjoint(theirs)
    except OSError:
        return None


def _peers(inodes: set[int]) -> set[int]:
    """Return the other ends of those of these sockets that are UNIX sockets and connected (sock_diag(7)).

    Raises:
        OSError: the kernel does not answer.
    """
    found = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as kernel:
        kernel.settimeout(1)
        for inode in inodes:
            query = _QUERY.pack(socket.AF_UNIX, 0, 0, _ANY, inode, _SHOW_PEER, _ANY, _ANY)
            kernel.send(_HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _REQUEST, 0, 0) + query)
            found |= _peers_in(kernel.recv(4096))
    return found


def _peers_in(answer: bytes) -> set[int]:
    _, kind, _, _, _ = _HEADER.unpack_from(answer)
    if kind != _BY_FAMILY:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code not in (-2, 0):  # ENOENT: no UNIX socket, or a closed one
            raise OSError(-code, os.strerror(-code))
        return set()
    found, place = set(), _HEADER.size + _ANSWER.size
    while place + _ATTRIBUTE.size <= len(answer):
        length, name = _ATTRIBUTE.unpack_from(answer, place)
        if name == _PEER:
            found.add(struct.unpack_from("=I", answer, place + _ATTRIBUTE.size)[0])
        place += max((length + 3) & ~3, _ATTRIBUTE.size)
    return found
