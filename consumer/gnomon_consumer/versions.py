"""The versions of Gnomon and its libraries, for a bug report."""

import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from gnomon_schemas.errors import GnomonError


def versions() -> list[str]:
    """Return a line for Gnomon and one for each library that it uses; a missing library is listed as missing."""
    return [f"gnomon, version {_package('gnomon')}", *(f"  {name} {found}" for name, found in _libraries())]


def _libraries() -> list[tuple[str, str]]:
    return [
        ("Python", platform.python_version()),
        ("librdkafka", _or_not_installed(_librdkafka)),
        ("fastavro", _package("fastavro")),
        ("PyArrow", _package("pyarrow")),
        ("ONNX Runtime", _package("onnxruntime")),
        ("libpq (PostgreSQL's client)", _or_not_installed(_libpq)),
        ("PostgreSQL (embedded)", _or_not_installed(_embedded_postgres)),
    ]


def _package(name: str) -> str:
    return _or_not_installed(lambda: version(name))


def _or_not_installed(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except (ImportError, PackageNotFoundError, OSError, GnomonError):
        return "not installed"


def _librdkafka() -> str:
    from confluent_kafka import libversion

    return libversion()[0]


def _libpq() -> str:
    from psycopg import pq

    return ".".join(map(str, divmod(pq.version(), 10_000)))


def _embedded_postgres() -> str:
    from gnomon_consumer.quickstart.embedded.postgres import programs

    done = subprocess.run([programs() / "postgres", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.split()[-1] if done.stdout else "does not start"
