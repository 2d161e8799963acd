"""libunbound's C interface (unbound.h) in ctypes: the result structure and the types of the functions."""

from __future__ import annotations

import ctypes

from smilla.errors import EngineMissing

_LIBRARY = "libunbound.so.8"


class Result(ctypes.Structure):
    """struct ub_result of unbound.h."""

    _fields_ = (
        ("qname", ctypes.c_char_p),
        ("qtype", ctypes.c_int),
        ("qclass", ctypes.c_int),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("len", ctypes.POINTER(ctypes.c_int)),
        ("canonname", ctypes.c_char_p),
        ("rcode", ctypes.c_int),
        ("answer_packet", ctypes.c_void_p),
        ("answer_len", ctypes.c_int),
        ("havedata", ctypes.c_int),
        ("nxdomain", ctypes.c_int),
        ("secure", ctypes.c_int),
        ("bogus", ctypes.c_int),
        ("why_bogus", ctypes.c_char_p),
        ("was_ratelimited", ctypes.c_int),
        ("ttl", ctypes.c_int),
    )


Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Result))


def load() -> ctypes.CDLL:
    """The library.  Raises EngineMissing if it is not installed."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise EngineMissing(
            f'[dns] dnssec = "validate" needs {_LIBRARY}: apt-get install libunbound8 ({error}); or write dnssec = '
            '"resolver", with a validating resolver of this machine in nameservers'
        ) from error
    library.ub_ctx_create.restype = ctypes.c_void_p
    library.ub_ctx_delete.argtypes = (ctypes.c_void_p,)
    library.ub_ctx_delete.restype = None
    library.ub_strerror.restype = ctypes.c_char_p
    library.ub_resolve_async.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        Callback,
        ctypes.POINTER(ctypes.c_int),
    )
    for name in ("ub_ctx_config", "ub_ctx_set_fwd", "ub_ctx_add_ta_file"):
        getattr(library, name).argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    for name in ("ub_fd", "ub_process"):
        getattr(library, name).argtypes = (ctypes.c_void_p,)
    library.ub_ctx_async.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.ub_resolve_free.argtypes = (ctypes.POINTER(Result),)
    library.ub_resolve_free.restype = None
    return library


def words(library: ctypes.CDLL, code: int) -> str:
    """libunbound's own words for an error code."""
    return bytes(library.ub_strerror(code)).decode("ascii", "replace")
