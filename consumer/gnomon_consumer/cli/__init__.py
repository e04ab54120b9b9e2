"""The `gnomon` command: a group that loads each command's module only when that command is used.

Exit status: 0 done, 1 a check says no, 2 usage or configuration, 3 a dependency is unreachable. An error is
one line on standard error, never a traceback.
"""

import importlib
import os
import sys

import rich_click as click
from click.exceptions import Abort, NoArgsIsHelpError
from typing_extensions import override

from gnomon_schemas.errors import GnomonError

# Command -> module:attribute. One line each; the order is the order of the help.
COMMANDS: dict[str, str] = {
    "demo": "gnomon_consumer.cli.demo:demo",
    "init": "gnomon_consumer.cli.init:init",
    "run": "gnomon_consumer.cli.run:run",
    "topics": "gnomon_consumer.cli.topics:topics",
    "schemas": "gnomon_consumer.cli.schemas:schemas",
    "score": "gnomon_consumer.cli.score:score",
    "replay": "gnomon_consumer.cli.replay:replay",
    "db": "gnomon_consumer.cli.db:db",
    "join": "gnomon_consumer.cli.join:join",
    "labels": "gnomon_consumer.cli.labels:labels",
    "report": "gnomon_consumer.cli.report:report",
    "dlq": "gnomon_consumer.cli.dlq:dlq",
    "tail": "gnomon_consumer.cli.tail:tail",
    "reference": "gnomon_consumer.cli.reference:reference",
    "doctor": "gnomon_consumer.cli.doctor:doctor",
}


class LazyGroup(click.RichGroup):
    """A group whose commands are found in `COMMANDS` and imported on first use."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order of the table."""
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None for a name that is not in the table."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gnomon", prog_name="gnomon")
def gnomon() -> None:
    """Shadow-mode evaluation of a candidate model on real traffic, over Kafka."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status (`sys.exit`)."""
    try:
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
        # The reader of our output went away (`| head`): nothing to say, and nothing more may be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> int:
    sys.stderr.write(f"gnomon: {' '.join(message.split())}\n")
    return status
