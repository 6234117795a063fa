"""Runs a command that may open sockets of some address families only, as systemd's RestrictAddressFamilies does:
`python3 only-families.py AF_INET,AF_UNIX COMMAND ARGS`. A filter of system calls, seccomp(2), that answers EAFNOSUPPORT."""

import ctypes
import os
import platform
import socket
import struct
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE_WITH_ERROR, EAFNOSUPPORT = 0x7FFF0000, 0x00050000, 97
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

families = [int(getattr(socket, name)) for name in sys.argv[1].split(",")]
steps = [(LOAD_WORD, 0, 0, 0), (JUMP_IF_EQUAL, 0, len(families) + 2, SOCKET), (LOAD_WORD, 0, 0, 16)]
# From each family over those after it and the refusal to what allows.
steps += [(JUMP_IF_EQUAL, len(families) - i, 0, family) for i, family in enumerate(families)]
steps += [(RETURN, 0, 0, REFUSE_WITH_ERROR | EAFNOSUPPORT), (RETURN, 0, 0, ALLOW)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(len(steps), ctypes.addressof(code))), 0, 0) != 0:
    sys.exit(f"no filter of system calls: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[2], sys.argv[2:])
