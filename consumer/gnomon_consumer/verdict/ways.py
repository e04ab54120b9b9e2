"""The switches of promotions: an MLflow alias, a flag file, or a command.

Each switch reads its state (`state`), checks that the change would work (`check`), and moves by compare-and-set: if the
state has changed meanwhile, it changes nothing and raises WayMovedError.
"""

import json
import os
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import IO, Any

from typing_extensions import override

from gnomon_consumer.runtime.folder_lock import alone_in
from gnomon_consumer.runtime.parent_death import leashed
from gnomon_consumer.verdict.rules.plan import WayBack
from gnomon_schemas.errors import ConfigurationError, GnomonError

COMMAND_SECONDS = 600
TAG = "gnomon"
SwitchState = dict[str, Any]


class WayMovedError(GnomonError):
    """Another process moved the switch between check and set; nothing was changed."""

    exit_status = 1


class Way(ABC):
    """A switch between two models. A state is JSON: `move` starts from one and can return to it."""

    @abstractmethod
    def state(self) -> SwitchState:
        """Return the current state. Raises ConfigurationError if there is no such switch."""

    @abstractmethod
    def wanted(self) -> SwitchState:
        """Return the state in which the challenger is live."""

    @abstractmethod
    def check(self, target: SwitchState) -> None:
        """Raise if a move to `target` could not work; change nothing."""

    @abstractmethod
    def move(self, expected: SwitchState, target: SwitchState, note: dict[str, str]) -> None:
        """Make `target` live if `expected` is live now; raise WayMovedError otherwise. `note`: who, why, verdict."""


def way_of(plan: WayBack) -> Way:
    """Return the switch that the plan names. Raises ConfigurationError if it names none."""
    if plan.kind == "mlflow":
        return MlflowAlias(plan)
    if plan.kind == "flag":
        return FlagFile(plan)
    if plan.kind == "command":
        return Command(plan)
    raise ConfigurationError("the plan names no way back: set verdict.way_back.kind to mlflow, flag or command")


class MlflowAlias(Way):
    """An alias of a registered model, through the user's own MLflow (mlflow or mlflow-skinny)."""

    def __init__(self, plan: WayBack) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise ConfigurationError(
                "verdict.way_back is mlflow, which is not installed: pip install mlflow-skinny"
            ) from None
        assert plan.mlflow_model is not None
        assert plan.mlflow_version is not None
        self._error = MlflowException
        self._model, self._alias, self._version = plan.mlflow_model, plan.mlflow_alias, plan.mlflow_version
        try:
            self._client = MlflowClient(tracking_uri=plan.mlflow_uri, registry_uri=plan.mlflow_uri)
        except MlflowException as error:
            raise ConfigurationError(f"MLflow: {_line(error)}") from error

    @override
    def state(self) -> SwitchState:
        """Return the version that the alias names, null without such an alias."""
        try:
            aliases = self._client.get_registered_model(self._model).aliases
        except self._error as error:
            raise ConfigurationError(f"MLflow has no registered model {self._model}: {_line(error)}") from error
        version = aliases.get(self._alias)
        return {"model": self._model, "alias": self._alias, "version": None if version is None else str(version)}

    @override
    def wanted(self) -> SwitchState:
        return {"model": self._model, "alias": self._alias, "version": self._version}

    @override
    def check(self, target: SwitchState) -> None:
        """Raise if the registry has no such version."""
        if target["version"] is None:
            return
        try:
            self._client.get_model_version(self._model, target["version"])
        except self._error as error:
            raise ConfigurationError(
                f"MLflow has no version {target['version']} of {self._model}: {_line(error)}"
            ) from error

    @override
    def move(self, expected: SwitchState, target: SwitchState, note: dict[str, str]) -> None:
        """Set the alias and tag the version. MLflow has no compare-and-set: read before, and read back after."""
        if self.state() != expected:
            raise WayMovedError(
                f"alias {self._alias} names version {self.state()['version']}, not {expected['version']}"
            )
        try:
            if target["version"] is None:
                self._client.delete_registered_model_alias(self._model, self._alias)
            else:
                for key, value in note.items():
                    self._client.set_model_version_tag(self._model, target["version"], f"{TAG}.{key}", value)
                self._client.set_registered_model_alias(self._model, self._alias, target["version"])
        except self._error as error:
            raise GnomonError(f"MLflow refused to move alias {self._alias}: {_line(error)}") from error
        if self.state() != target:
            raise WayMovedError(f"alias {self._alias} was moved to version {self.state()['version']} by somebody else")


class FlagFile(Way):
    """The default variant of a flag in a file in flagd's format; written whole, then renamed into place."""

    def __init__(self, plan: WayBack) -> None:
        assert plan.flag_file is not None
        assert plan.flag is not None
        assert plan.flag_variant is not None
        self._path, self._flag, self._variant = Path(plan.flag_file), plan.flag, plan.flag_variant

    @override
    def state(self) -> SwitchState:
        return {"file": str(self._path), "flag": self._flag, "variant": self._read()[1].get("defaultVariant")}

    @override
    def wanted(self) -> SwitchState:
        return {"file": str(self._path), "flag": self._flag, "variant": self._variant}

    @override
    def check(self, target: SwitchState) -> None:
        """Raise if the variant does not exist or would have no effect, or if the file cannot be replaced."""
        flag = self._read()[1]
        variants = flag.get("variants")
        if not isinstance(variants, dict):
            raise ConfigurationError(f"flag {self._flag} of {self._path} has no table `variants`")
        # Without a default variant the service's own default is live.
        if target["variant"] is not None and target["variant"] not in variants:
            there = ", ".join(sorted(variants)) or "none"
            raise ConfigurationError(f"flag {self._flag} has no variant {target['variant']}; there are {there}")
        if flag.get("state") != "ENABLED":
            raise ConfigurationError(f"flag {self._flag} is not ENABLED, so its default variant has no effect")
        if flag.get("targeting"):
            raise ConfigurationError(
                f"flag {self._flag} has targeting rules, which decide before its default variant: remove them, or move"
                " the switch by a command (way_back.kind)"
            )
        folder = self._path.resolve().parent
        if not os.access(folder, os.W_OK):
            raise ConfigurationError(f"{folder} may not be written")

    @override
    def move(self, expected: SwitchState, target: SwitchState, note: dict[str, str]) -> None:
        with self._alone():
            if self.state() != expected:
                raise WayMovedError(f"flag {self._flag} is {self.state()['variant']}, not {expected['variant']}")
            whole, flag = self._read()
            flag["defaultVariant"] = target["variant"]
            flag["metadata"] = {
                **(flag.get("metadata") or {}),
                **{f"{TAG}.{key}": value for key, value in note.items()},
            }
            # The file itself, not a link to it. One name: what a killed process left behind is written over.
            file_itself = self._path.resolve()
            made = file_itself.with_name(f".{file_itself.name}.gnomon")
            text = _written(whole)
            try:
                with made.open("wb") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                made.chmod(file_itself.stat().st_mode & 0o777)
                made.replace(file_itself)
            except OSError as error:
                made.unlink(missing_ok=True)
                raise GnomonError(f"{self._path} cannot be replaced: {error.strerror}") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other streams, whose flags may be in the same file, from writing it at the same time."""
        with ExitStack() as stack:
            try:
                stack.enter_context(alone_in(self._path.resolve().parent))
            except OSError as error:
                raise GnomonError(f"{self._path.parent} cannot be opened: {error.strerror}") from error
            yield

    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            text = self._path.read_text(encoding="utf-8-sig")
            whole = json.loads(text, parse_constant=_refuse, parse_float=_finite)
            flags = whole["flags"]
            known = ", ".join(sorted(flags)) or "none"
            _written(whole)
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):x}"
            raise ConfigurationError(
                f"{self._path} has {half}, half of a character that JSON escapes as two: write both"
            ) from error
        except OSError as error:
            raise ConfigurationError(f"flag file {self._path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigurationError(
                f"{self._path} is not a flag file in flagd's format, which is JSON with a table `flags`: {_line(error)}"
            ) from error
        if not isinstance(flags, dict) or not isinstance(flags.get(self._flag), dict):
            raise ConfigurationError(f"{self._path} has no flag {self._flag}; there are {known}")
        if not isinstance(flags[self._flag].get("metadata") or {}, dict):
            raise ConfigurationError(f"flag {self._flag} of {self._path} has metadata that is not a table")
        return whole, flags[self._flag]


class Command(Way):
    """Two commands of the user; GNOMON_… variables hold their arguments."""

    def __init__(self, plan: WayBack) -> None:
        self._promote, self._rollback, self._check = plan.promote_command, plan.rollback_command, plan.check_command

    @override
    def state(self) -> SwitchState:
        return {"command": None}

    @override
    def wanted(self) -> SwitchState:
        return {"command": list(self._promote)}

    @override
    def check(self, target: SwitchState) -> None:
        """Run the check command, if there is one; otherwise check that the command's program exists."""
        import shutil

        if self._check:
            self._run(self._check, {})
        for command in (self._promote, self._rollback):
            if shutil.which(command[0]) is None:
                raise ConfigurationError(f"{command[0]} is not a program that can be run")

    @override
    def move(self, expected: SwitchState, target: SwitchState, note: dict[str, str]) -> None:
        self._run(self._promote if target["command"] else self._rollback, note)

    def _run(self, command: tuple[str, ...], note: dict[str, str]) -> None:
        environment = {**os.environ, **{f"GNOMON_{key.upper()}": value for key, value in note.items()}}
        # Files, not pipes: what the command leaves running in the background would hold a pipe open.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                # Tied to this process: a command that outlived it would continue while `promote --resume` reverts it.
                process = subprocess.Popen(
                    leashed(command), env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise GnomonError(f"{command[0]}: {_line(error)}") from error
            try:
                status = process.wait(COMMAND_SECONDS)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    # Its arguments may hold secrets, so only its name is shown.
                    raise GnomonError(f"{command[0]} did not end within {COMMAND_SECONDS} s and was killed") from None
                raise
            if status != 0:
                raise GnomonError(f"{command[0]} ended with status {status}: {_end(err) or _end(out)}")


def _end(file: IO[bytes]) -> str:
    """Return the end of a command's output."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 2000))
    return " ".join(file.read().decode(errors="replace").split())[-300:]


def _written(flags: dict[str, Any]) -> bytes:
    """Return a flag file's bytes. Raises UnicodeEncodeError for half a character, RecursionError for deep nesting."""
    return json.dumps(flags, indent=2, ensure_ascii=False).encode() + b"\n"


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number in JSON")


def _finite(text: str) -> float:
    """Return a number that can be written again. Raises ValueError for one beyond all floats."""
    number = float(text)
    return number if isfinite(number) else _refuse(text)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
