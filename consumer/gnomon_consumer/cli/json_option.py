"""The options --json and --pretty, and printing what they ask for."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

from gnomon_consumer.runtime.json_text import json_text

F = TypeVar("F", bound=Callable[..., Any])
_PRETTY = "gnomon.pretty"


def json_option(text: str = "Print one JSON object.") -> Callable[[F], F]:
    """Add --json, passed on as the argument `as_json`, and --pretty, which asks for JSON as well."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_json(*args: Any, as_json: bool, **kwargs: Any) -> Any:
            return command(*args, as_json=as_json or asked_pretty(), **kwargs)

        wrapped: Any = click.option("--json", "as_json", is_flag=True, help=text)(
            pretty_option("Print JSON with one value per line.")(with_json)
        )
        result: F = wrapped
        return result

    return decorate


def pretty_option(text: str) -> Callable[[F], F]:
    """Add --pretty; `asked_pretty` says whether it was given."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        context.meta[_PRETTY] = value

    return click.option("--pretty", is_flag=True, expose_value=False, callback=remember, help=text)


def asked_pretty() -> bool:
    """Return whether --pretty was given to the running command."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_PRETTY))


def echo_json(value: Any, hide: Callable[[str], str] = str) -> None:
    """Print a value as JSON; `hide` takes secrets out of the text."""
    click.echo(hide(json_text(value, asked_pretty())))
