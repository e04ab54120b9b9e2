"""The part of the schema that holds no data and is rebuilt as a whole: functions, views, reading API.

`sql/gnomon/` holds functions and views next to the tables (`create or replace`); `sql/gnomon_estimators/` the
internal functions of the reports, free to change; `sql/report_v1/` the public reading API. Each may use the ones
before it. Files of a folder run in the order of their names. In the two folders of reports, 005 to 099 are the common
parts and the reports on agreement, errors, latency and coverage; 100 to 199 those on quality, labels, slices, services
and answers; 500 to 599 those on features, and the live view; 600 the verdicts; 900 sets `jit` of functions. They
run in the transaction of the upgrade, whenever their text (or a migration) differs from the text in the database; the
estimators and `report_v1` are then dropped and created again, and the readers' rights are granted again.
`sql/upgrade/` holds the statements of the upgrade itself.

A released folder `report_vN` is not edited: a view whose meaning must change goes into
`report_v(N+1)`, next to the old one.
"""

import hashlib
from importlib.resources import files

from gnomon_migrations.scripts import create_schema, drop_schema, run, run_file, run_with

FUNCTIONS = "gnomon"
ESTIMATORS = "gnomon_estimators"


def folders() -> list[str]:
    """Return the folders of SQL: functions, estimators, then every version of the reading API."""
    found = sorted(entry.name for entry in files("gnomon_migrations").joinpath("sql").iterdir() if entry.is_dir())
    return [FUNCTIONS, ESTIMATORS, *(name for name in found if name.startswith("report_v"))]


def scripts(folder: str) -> list[tuple[str, str]]:
    """Return (file name, text) of one folder, in the order in which they run."""
    entries = files("gnomon_migrations").joinpath("sql", folder).iterdir()
    return sorted((entry.name, entry.read_text(encoding="utf-8")) for entry in entries if entry.name.endswith(".sql"))


def checksum(folder: str) -> str:
    """Return the SHA-256 over names and texts of one folder."""
    digest = hashlib.sha256()
    for name, text in scripts(folder):
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


def drop_reports() -> None:
    """Drop the reading API, so that the tables under it may change."""
    for folder in folders():
        if folder != FUNCTIONS:
            drop_schema(folder)


def rebuild_views() -> None:
    """Create functions and views from the files, and store their checksums."""
    drop_reports()
    for folder in folders():
        if folder != FUNCTIONS:
            create_schema(folder)
        for _, text in scripts(folder):
            run(text)
        run_with("sql/upgrade/record_view_version.sql", name=folder, sha256=checksum(folder))
    run_file("sql/upgrade/after_rebuild.sql")


def stale(stored: dict[str, str]) -> bool:
    """Return whether the database's functions and views differ from the files; `stored` maps names to checksums."""
    return stored != {folder: checksum(folder) for folder in folders()}
