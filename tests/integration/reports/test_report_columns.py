"""Every column that a reader may see is described, in the docs and, for the pairs, also in the database."""

import math

from tests.support.docs_module import DOCS, docs_module
from tests.support.report_database import Database

from gnomon_consumer.reports import REPORTS, Question, ask


def test_every_column_of_every_report_is_described(db: Database) -> None:
    described = {
        name: [column for column, _ in columns] for name, columns in docs_module("reference").report_columns().items()
    }
    returned = dict(
        db.connection.execute(
            "select p.proname, array_agg(a.name order by a.at) from pg_proc p"
            " cross join lateral unnest(p.proargnames, p.proargmodes) with ordinality a(name, mode, at)"
            " where p.pronamespace = 'report_v1'::regnamespace and a.mode = 't' group by 1"
        ).fetchall()
    )
    assert returned.pop("pair_features")[-1] == "features"
    assert described == returned
    for name in REPORTS:
        assert list(ask(db.connection, name, Question("s")).columns) == described[REPORTS[name].function]


def test_every_column_of_the_pairs_has_its_comment(db: Database) -> None:
    commented = db.connection.execute(
        "select attname, col_description(attrelid, attnum) from pg_attribute"
        " where attrelid = 'report_v1.pairs'::regclass and attnum > 0 order by attnum"
    ).fetchall()
    assert len(commented) > 50
    assert [name for name, comment in commented if not comment] == []
    page = (DOCS / "report-columns.md").read_text(encoding="utf-8")
    for name, comment in commented:
        assert f"| `{name}` | {comment} |" in page


def test_features_have_their_names(db: Database) -> None:
    for name, kind, position in (("distance", "numeric", 1), ("load", "numeric", 2), ("origin", "text", 1)):
        db.add("feature_columns", [{"stream_id": db.stream_id, "name": name, "kind": kind, "position": position,
                                    "avro_type": "string" if kind == "text" else "double"}])  # fmt: skip
    db.add_pairs([
        {"request_id": "a", "features_numeric": [12.5, None], "features_text": ["JFK"], "live_value": 1.0},
        {"request_id": "b", "features_numeric": [math.nan], "features_text": [], "live_value": 1.0},
        {"request_id": "c", "live_value": 1.0},
    ])  # fmt: skip
    rows = db.connection.execute("select request_id, features from report_v1.pair_features('s')").fetchall()
    assert dict(rows) == {"a": {"distance": 12.5, "origin": "JFK"}, "b": {"distance": "NaN"}, "c": {}}
    typed = db.connection.execute(
        "select p.request_id, f.* from report_v1.pair_features('s') p,"
        " jsonb_to_record(p.features) f(distance float8, origin text) order by 1"
    ).fetchall()
    assert typed[0] == ("a", 12.5, "JFK")
    assert math.isnan(typed[1][1])
