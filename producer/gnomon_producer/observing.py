"""The decorator: every call of a function or coroutine function becomes a capture."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from gnomon_producer.shot import Shot

F = TypeVar("F", bound=Callable[..., Any])


def watching(shot_of: Callable[[Any, Any], Shot], predicted: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return a decorator: `shot_of` makes a call's Shot from its arguments and keywords, `predicted` reads its result.

    The result and the exception of the function stay unchanged.
    """

    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def watched_coroutine(*args: Any, **kwargs: Any) -> Any:
                with shot_of(args, kwargs) as shot:
                    result = await function(*args, **kwargs)
                    shot.returned(predicted, result)
                return result

            return watched_coroutine  # type: ignore[return-value]  # wraps() keeps the signature

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with shot_of(args, kwargs) as shot:
                result = function(*args, **kwargs)
                shot.returned(predicted, result)
            return result

        return watched  # type: ignore[return-value]  # wraps() keeps the signature

    return decorate
