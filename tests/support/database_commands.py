"""The commands that use the database, each with the arguments that it needs."""

from collections.abc import Mapping

# Command -> arguments. `db upgrade` is last: it changes the situation.
ASKED: Mapping[str, tuple[str, ...]] = {
    "db current": (),
    "db maintain": (),
    "db roles": (),
    "labels load": ("labels.csv",),
    "db erase": ("request",),
    "join": ("--deployment", "challenger", "--drain"),
    "labels consume": ("--drain",),
    "reference build": ("training.csv", "--name", "{situation}"),
    "reference list": (),
    "dlq list": (),
    "dlq show": ("0", "0"),
    "dlq replay": ("--deployment", "challenger", "--model", "model.onnx"),
    "streams show": (),
    "streams set": ("--task", "binary"),
    "verdict": ("--deployment", "challenger"),
    "verdict --plan": ("--deployment", "challenger"),
    "verdict --as-of": ("2026-01-01T00:00:00Z", "--deployment", "challenger"),
    "verdict --verify": ("1",),
    "verdict export": ("1",),
    "promote": ("--deployment", "challenger", "--dry-run"),
    "rollback": ("--deployment", "challenger", "--dry-run"),
    "report agreement": (),
    "report quality": (),
    "report html": ("-o", "report.html"),
    "report check": ("--bound", "agreement.low >= 0.9"),
    "report skew": ("training.csv",),
    "tail": ("--count", "1"),
    "doctor": (),
    "db upgrade": (),
}
# Commands that another one represents, with the reason.
LEFT_OUT = {
    "run": "starts `score`, `join` and `labels consume`; asked below",
}
