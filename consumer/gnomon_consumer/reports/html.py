"""The report as one HTML file: no script, no external address, light and dark, fit for print and screen readers."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gnomon_consumer.reports import charts
from gnomon_consumer.reports.charts import Estimate
from gnomon_consumer.reports.page import Page
from gnomon_consumer.reports.query import Row
from gnomon_consumer.reports.terminal import NOTHING, number

# Higher is better for these; for the other measures of quality lower is.
HIGHER = {"accuracy", "precision", "recall", "auc", "ndcg@10"}
NAMES = {
    "accuracy": "accuracy", "precision": "precision", "recall": "recall", "auc": "AUC", "log_loss": "log loss",
    "brier": "Brier score", "rmse": "RMSE", "mae": "MAE", "ndcg@10": "NDCG@10", "label_coverage": "labelled share",
}  # fmt: skip
SHARES = {"accuracy", "precision", "recall", "label_coverage"}


def render(page: Page) -> str:
    """The whole file as text."""
    environment = Environment(
        loader=PackageLoader("gnomon_consumer.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as"] = number
    environment.globals.update(
        interval=_interval, name=lambda metric: NAMES.get(metric, metric), measure=_measure, signed=_signed,
        favours=_favours, features=_features, slice_title=_slice_title, slice_chart=_slice_chart, nothing=NOTHING,
    )  # fmt: skip
    return environment.get_template("report.html.j2").render(
        page=page,
        cards=[_card(page, row) for row in page.challengers],
        quality=_quality(page),
        quality_chart=_quality_chart(page),
        confusions=_confusions(page),
        latencies=_latencies(page),
        pictures=_timelines(page),
    )


def _interval(row: Row, kind: str, low: str = "low", high: str = "high") -> str:
    """`[low, high]` in words, or nothing."""
    ends = [number(row.get(key), kind) for key in (low, high)]
    return "" if NOTHING in ends else f"{ends[0]} to {ends[1]}"


def _card(page: Page, deployment: Row) -> list[dict[str, Any]]:
    """The four dashboard numbers of a challenger, the control's beside them."""
    specifications: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
        ("agreement", "Agreement with live", "agreement", "share", {}),
        ("latency", "Latency, 95th percentile", "microseconds", "µs", {"measure": "shadow", "quantile": 0.95}),
        ("errors", "Shadow error rate", "rate", "share", {"metric": "error", "side": "shadow"}),
        ("coverage", "Coverage", "coverage", "share", {}),
    )
    cards = []
    for report, title, source, kind, wanted in specifications:
        mine = page.of(report, deployment["deployment"], **wanted)
        theirs = page.of(report, page.control["deployment"], **wanted) if page.control else {}
        cards.append(
            {
                "title": title,
                "value": number(mine.get(source), kind),
                "interval": _interval(mine, kind),
                "n": mine.get("n", mine.get("seen")),
                "status": "" if mine.get("status", "ok") == "ok" else mine["status"],
                "control": number(theirs.get(source), kind),
                "control_interval": _interval(theirs, kind),
            }
        )
    return cards


def _quality(page: Page) -> list[dict[str, Any]]:
    """One entry a (horizon, deployment, metric) with its three sides."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in page.quality:
        key = (_days(row["horizon"]), row["deployment"], row["metric"])
        found.setdefault(key, {"horizon": key[0], "deployment": key[1], "metric": key[2]})[row["side"]] = row
    return list(found.values())


def _days(horizon: timedelta) -> str:
    """A horizon in words."""
    days = horizon.total_seconds() / 86_400
    return "1 day" if days == 1 else f"{days:g} days" if days >= 1 else f"{24 * days:g} hours"


def _confusions(page: Page) -> list[dict[str, Any]]:
    """One table a deployment: rows of live decisions, columns of the shadow's, shares in the cells."""
    tables = []
    for deployment in page.deployments:
        cells = {
            (row["live_label"], row["shadow_label"]): row["share"]
            for row in page.reports["confusion"]
            if row["deployment"] == deployment["deployment"] and row["share"] is not None
        }
        if cells:
            columns = sorted({shadow for _, shadow in cells})
            rows = [
                (live, [cells.get((live, shadow), 0.0) for shadow in columns]) for live in sorted({a for a, _ in cells})
            ]
            tables.append({"deployment": deployment["deployment"], "columns": columns, "rows": rows})
    return tables


def _latencies(page: Page) -> list[dict[str, Any]]:
    """One entry a (deployment, measure) with its quantiles in order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in page.reports["latency"]:
        if row["microseconds"] is not None:
            found.setdefault((row["deployment"], row["measure"]), []).append(row)
    return [
        {"deployment": deployment, "measure": measure, "n": rows[0]["n"], "quantiles": rows}
        for (deployment, measure), rows in found.items()
    ]


def _measure(row: Row | None, metric: str) -> str:
    if row is None or row["estimate"] is None:
        return NOTHING
    return number(row["estimate"], "share") if metric in SHARES else f"{row['estimate']:.4f}"


def _signed(value: float | None, metric: str) -> str:
    """A difference: shares in percentage points."""
    if value is None:
        return NOTHING
    return f"{100 * value:+.2f} pp" if metric in SHARES else f"{value:+.5f}"


def _favours(entry: dict[str, Any]) -> str:
    """Whom a difference favours beyond its interval; in words, since colour alone says nothing."""
    row = entry.get("difference")
    if row is None or row["low"] is None:
        return NOTHING
    if row["low"] <= 0 <= row["high"]:
        return "no clear difference"
    better = (row["estimate"] > 0) == (entry["metric"] in HIGHER)
    return "shadow better" if better else "live better"


def _quality_chart(page: Page) -> Markup:
    """Differences of the last horizon, each in units of its own standard error, better to the right."""
    entries = [entry for entry in _quality(page) if "difference" in entry and entry["difference"]["standard_error"]]
    if not entries:
        return Markup("")
    last = entries[-1]["horizon"]
    points = []
    for entry in entries:
        row = entry["difference"]
        if entry["horizon"] != last or row["estimate"] is None:
            continue
        sign = 1 if entry["metric"] in HIGHER else -1
        middle = sign * row["estimate"] / row["standard_error"]
        points.append(
            Estimate(NAMES[entry["metric"]], row["deployment"], _role(row), middle, middle - 1.96, middle + 1.96)
        )
    title = f"Difference from live at {last}, in standard errors; right of zero the shadow is better"
    return _safe(charts.intervals("quality", _plain(title), points, share=False, zero=True))


def _slice_title(slice_: str) -> str:
    return f"By {slice_.removeprefix('segment:')}" if slice_.startswith("segment:") else f"By {slice_} (local time)"


def _slice_chart(slice_: str, rows: Sequence[Row]) -> Markup:
    points = [
        Estimate(_place(row["value"]), row["deployment"], _role(row), row["estimate"], row["low"], row["high"])
        for row in rows
        if row["estimate"] is not None
    ]
    if not points:
        return Markup("")
    name = "slice-" + "".join(letter if letter.isalnum() else "-" for letter in slice_)
    return _safe(
        charts.intervals(name, _plain(f"Agreement with live {_slice_title(slice_).lower()}"), points, share=True)
    )


def _place(value: str) -> str:
    """A weekday without its number; matplotlib's own signs taken as text."""
    shown = value[2:] if value[:1].isdigit() and value[1:2] == " " else value
    return shown.replace("$", r"\$")


def _timelines(page: Page) -> list[Markup]:
    pictures = []
    for column, title in (
        ("agreement", "Agreement with live by day"),
        ("error_rate", "Shadow error rate by day"),
        ("sampling_fraction", "Share of the traffic that was sampled by day"),
    ):
        points = [
            Estimate(row["at"], row["deployment"], _role(row), row[column])
            for row in page.timeline
            if row[column] is not None
        ]
        if points:
            pictures.append(_safe(charts.timeline(column.replace("_", "-"), title, points)))
    return pictures


def _role(row: Row) -> str:
    return "control" if row["role"] == "control" else "challenger"


def _features(row: Row) -> str:
    """A pair's features by name, as short text."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in (row["features"] or {}).items()
    )


def _plain(text: str) -> str:
    return str(escape(text))


def _safe(svg: str) -> Markup:
    # matplotlib escapes every text it draws, the title is escaped above.
    return Markup(svg)  # noqa: S704
