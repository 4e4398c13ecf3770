"""Steering: which sockets of one address get new connections (Linux).

The kernel spreads connections over the sockets that share an address by a hash. A socket that is to be closed must get none
any more before it is, or those in its queue are reset. A classic BPF program attached to the group (socket(7),
``SO_ATTACH_REUSEPORT_CBPF``) returns the index of the socket that a connection goes to; this one draws among those that
stay. An index is the position in which a socket began to listen; when one is closed, the last one takes its place.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from collections.abc import Sequence

__all__ = ["available", "release", "steer"]

_ATTACH, _DETACH = 51, 68  # SO_ATTACH_REUSEPORT_CBPF, SO_DETACH_REUSEPORT_BPF
_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)  # BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_RANDOM
_MODULO = 0x94  # BPF_ALU | BPF_MOD | BPF_K
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("first", ctypes.POINTER(_Instruction)))


def available() -> bool:
    return sys.platform == "linux"


def steer(member: socket.socket, indices: Sequence[int]) -> None:
    """New connections of the group go only to these positions, each as often. Raises OSError."""
    code: list[tuple[int, int, int, int]] = [_LOAD_RANDOM, (_MODULO, 0, 0, len(indices))]
    for nth, index in enumerate(indices):
        code += [(_EQUAL, 0, 1, nth), (_RETURN, 0, 0, index)]
    code.append((_RETURN, 0, 0, indices[0]))
    instructions = (_Instruction * len(code))(*[_Instruction(*one) for one in code])
    member.setsockopt(socket.SOL_SOCKET, _ATTACH, bytes(_Program(len(code), instructions)))


def release(member: socket.socket) -> None:
    """Back to the kernel's hash over all. Raises OSError: nothing was attached, or a kernel older than 5.3."""
    member.setsockopt(socket.SOL_SOCKET, _DETACH, 0)
