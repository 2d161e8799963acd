"""Remembers results for short arguments.  Long ones, which strangers can send, are worked out each time, so that a
worker's memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Sized
from functools import lru_cache, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

_Text_contra = TypeVar("_Text_contra", bound=Sized, contravariant=True)
_More = ParamSpec("_More")
_Result_co = TypeVar("_Result_co", covariant=True)


class Remembering(Protocol[_Text_contra, _More, _Result_co]):
    """A function whose results are remembered; ``remembered`` counts them."""

    remembered: Callable[[], int]

    def __call__(self, text: _Text_contra, /, *args: _More.args, **kwargs: _More.kwargs) -> _Result_co:
        """The function's result."""
        ...


_Function = Callable[Concatenate[_Text_contra, _More], _Result_co]


def when_short(
    longest: int, entries: int
) -> Callable[[_Function[_Text_contra, _More, _Result_co]], Remembering[_Text_contra, _More, _Result_co]]:
    """Remembers the last ``entries`` results of a pure function, for first arguments of at most ``longest`` characters
    or octets."""

    def decorate(function: _Function[_Text_contra, _More, _Result_co]) -> Remembering[_Text_contra, _More, _Result_co]:
        memory = lru_cache(maxsize=entries)(function)
        known = cast("_Function[_Text_contra, _More, _Result_co]", memory)

        @wraps(function)
        def result(text: _Text_contra, /, *args: _More.args, **kwargs: _More.kwargs) -> _Result_co:
            return (known if len(text) <= longest else function)(text, *args, **kwargs)

        remembering = cast("Remembering[_Text_contra, _More, _Result_co]", result)
        remembering.remembered = lambda: memory.cache_info().currsize
        return remembering

    return decorate
