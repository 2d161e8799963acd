"""librnp behind a bridge (see ../bridged.py), through its C interface.  A program of its own, since a fault in C would
end the tests."""

from __future__ import annotations

import base64
import ctypes
import sys
from ctypes import byref, c_char_p, c_size_t, c_uint32, c_void_p

_PUBLIC_AND_SECRET = 1 | 2  # RNP_LOAD_SAVE_PUBLIC_KEYS, RNP_LOAD_SAVE_SECRET_KEYS


class Failed(Exception):
    """A call that did not end with RNP_SUCCESS."""


class Library:
    """Each call checked."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.rnp_result_to_string.restype = c_char_p
        self._library.rnp_result_to_string.argtypes = [c_uint32]

    def call(self, name: str, *arguments: object) -> None:
        function = getattr(self._library, name)
        function.restype = c_uint32
        if result := function(*arguments):
            text = self._library.rnp_result_to_string(result) or b"?"
            raise Failed(f"{name}: {text.decode('utf-8', 'replace')}")

    def opened(self, secret: bytes, message: bytes) -> bytes:
        ffi, keys, source, target = c_void_p(), c_void_p(), c_void_p(), c_void_p()
        buffer, length = c_void_p(), c_size_t()
        self.call("rnp_ffi_create", byref(ffi), b"GPG", b"GPG")
        try:
            self.call("rnp_input_from_memory", byref(keys), secret, c_size_t(len(secret)), False)
            self.call("rnp_load_keys", ffi, b"GPG", keys, c_uint32(_PUBLIC_AND_SECRET))
            self.call("rnp_input_from_memory", byref(source), message, c_size_t(len(message)), False)
            self.call("rnp_output_to_memory", byref(target), c_size_t(0))
            self.call("rnp_decrypt", ffi, source, target)
            self.call("rnp_output_memory_get_buf", target, byref(buffer), byref(length), False)
            return ctypes.string_at(buffer, length.value)
        finally:
            for handle in (keys, source):
                self.call("rnp_input_destroy", handle)
            self.call("rnp_output_destroy", target)
            self.call("rnp_ffi_destroy", ffi)


def main() -> None:
    library = Library(sys.argv[1])
    for line in sys.stdin:
        _, secret, _, message = line.split()
        try:
            opened = library.opened(base64.b64decode(secret), base64.b64decode(message))
        except Failed as error:
            print(f"-{error}", flush=True)
        else:
            print(f"+{base64.b64encode(opened).decode()}", flush=True)


if __name__ == "__main__":
    main()
