"""The report as one HTML file: no script, no external address, light and dark, fit for print and screen readers."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gnomon_consumer.reports import charts, wording
from gnomon_consumer.reports.charts import Estimate
from gnomon_consumer.reports.numbers import NOTHING, number
from gnomon_consumer.reports.page import Page
from gnomon_consumer.reports.query import Row

# The rows of the table of errors: their words, metric and side.
ERRORS = (
    ("live fails", "error", "live"),
    ("shadow fails", "error", "shadow"),
    ("shadow less live", "error", "difference"),
    ("shadow fails by time-out", "timed_out", "pair"),
    ("only live fails", "only_live_failed", "pair"),
    ("only the shadow fails", "only_shadow_failed", "pair"),
    ("both fail", "both_failed", "pair"),
)
# What is said of an interval that does not know the clusters of its own pairs.
BY = {
    "cohort": "; of clusters the interval knows what they shared in the newest sealed cohort",
    "rows": "; of clusters the interval knows nothing yet",
}


def render(page: Page) -> str:
    """The whole file as text."""
    environment = Environment(
        loader=PackageLoader("gnomon_consumer.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"as": number, "quality_name": wording.NAMES.__getitem__}
    environment.globals.update(
        estimate=wording.estimate, interval=wording.interval, name=wording.NAMES.__getitem__, measure=wording.measure,
        difference=wording.difference, favours=wording.favours, standard_error=wording.standard_error,
        per_cent=wording.per_cent,
        features=_features, slice_title=_slice_title, slice_chart=_slice_chart, place=_shown, nothing=NOTHING,
    )  # fmt: skip
    quality = _quality(page)
    return environment.get_template("report.html.j2").render(
        page=page,
        cards=[_card(page, row) for row in page.challengers],
        evidence=any(row.get("n") for row in page.reports["agreement"]),
        quality=quality,
        quality_chart=_quality_chart(quality),
        labelled=_labelled(page),
        confusions=_confusions(page),
        latencies=_latencies(page),
        errors=_errors(page),
        pictures=_timelines(page),
    )


def _card(page: Page, deployment: Row) -> list[dict[str, Any]]:
    """The four dashboard numbers of a challenger, the control's beside them."""
    specifications: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
        ("agreement", "Agreement with live", "agreement", "share", {}),
        ("latency", "95% of answers within", "microseconds", "µs", {"measure": "shadow", "quantile": 0.95}),
        ("errors", "Errors of the shadow", "rate", "share", {"metric": "error", "side": "shadow"}),
        ("coverage", "Coverage: captures not lost", "coverage", "share", {}),
    )
    cards = []
    for report, title, source, kind, wanted in specifications:
        mine = page.of(report, deployment["deployment"], **wanted)
        theirs = page.of(report, page.control["deployment"], **wanted) if page.control else {}
        status = (mine or page.of(report, deployment["deployment"])).get("status", "ok")
        cards.append(
            {
                "title": title,
                "value": wording.estimate(mine, source, kind),
                "interval": wording.interval(mine, kind),
                "status": "" if status == "ok" else status,
                "of": _behind(report, mine),
                "control": wording.estimate(theirs, source, kind),
                "control_interval": wording.interval(theirs, kind),
            }
        )
    return cards


def _behind(report: str, row: Row) -> str:
    """How much stands behind a dashboard number."""
    if report == "coverage":
        sampled = row.get("sampling_fraction")
        return f"{number(row.get('seen'), 'count')} seen" + (
            "" if sampled is None else f", {100 * sampled:.3g}% of them sampled"
        )
    if not row.get("n"):
        return ""
    what = "requests scored one at a time" if report == "latency" else "requests"
    before = f" before {row['kept_until']:%Y-%m-%d}" if row.get("kept_until") else ""
    way = BY.get((row.get("interval_by") or "").partition(",")[0], "")
    return f"from {row['n']:,} {what}{before}{way}"


def _quality(page: Page) -> list[dict[str, Any]]:
    """One entry a (horizon, deployment, metric) with its three sides."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in page.quality:
        key = (wording.days(row["horizon"].total_seconds()), row["deployment"], row["metric"])
        entry = found.setdefault(key, {"horizon": key[0], "deployment": key[1], "metric": key[2], "role": _role(row)})
        entry[row["side"]] = row
    entries = [entry for entry in found.values() if "difference" in entry]
    for entry in entries:
        entry["equal"] = wording.is_equal(entry)
    return entries


def _labelled(page: Page) -> Mapping[str, dict[str, Row]]:
    """Label coverage: a row a horizon, a cell a deployment."""
    found: dict[str, dict[str, Row]] = {}
    for row in page.quality:
        if row["metric"] == "label_coverage":
            found.setdefault(wording.days(row["horizon"].total_seconds()), {})[row["deployment"]] = row
    return found


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
    """One entry a (deployment, measure) with its quantiles in order; live, which all share, once."""
    names = {"live_all": "live", "shadow": "shadow", "difference": "shadow less live"}
    found: dict[tuple[str, str], list[Row]] = {}
    for row in page.reports["latency"]:
        if row["microseconds"] is not None and row["measure"] in names:
            who = "live" if row["measure"] == "live_all" else row["deployment"]
            rows = found.setdefault((who, names[row["measure"]]), [])
            if len(rows) < 3:
                rows.append(row)
    return [{"who": who, "measure": name, "n": rows[0]["n"], "quantiles": rows} for (who, name), rows in found.items()]


def _errors(page: Page) -> list[tuple[str, list[Row]]]:
    """Error shares: a row a measure, a cell a deployment; of the finer ones those that there are."""
    rows = [
        (title, [page.of("errors", each["deployment"], metric=metric, side=side) for each in page.deployments])
        for title, metric, side in ERRORS
    ]
    known = [row for row in rows if any(cell.get("rate") is not None for cell in row[1])]
    return [*known[:3], *(row for row in known[3:] if any(cell.get("rate") for cell in row[1]))]


def _quality_chart(quality: Sequence[dict[str, Any]]) -> Markup:
    """Differences of the longest horizon relative to live's own number, better to the right."""
    last = quality[-1]["horizon"] if quality else None
    points = []
    for entry in quality:
        row, live = entry["difference"], entry["live"]["estimate"]
        if entry["horizon"] != last or not live or row["low"] is None:
            continue
        sign = 1 if entry["metric"] in wording.HIGHER else -1
        scale = 0 if entry["equal"] else sign / abs(live)
        ends = sorted(scale * row[end] for end in ("low", "high"))
        points.append(
            Estimate(wording.NAMES[entry["metric"]], entry["deployment"], entry["role"], scale * row["estimate"], *ends)
        )
    if not points:
        return Markup("")
    title = f"Difference from live with the labels that came within {last}; right of zero the shadow is better"
    axis = "← worse than live  ·  better than live →"
    return _safe(charts.intervals("quality", _plain(title), axis, points, zero=True))


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
    title = _plain(f"Agreement with live {_slice_title(slice_).lower()}")
    return _safe(charts.intervals(name, title, "agreement with live", points))


def _shown(value: str) -> str:
    """A slice's value as people read it: a weekday without its number."""
    return value[2:] if value[:1].isdigit() and value[1:2] == " " else value


def _place(value: str) -> str:
    """The same for matplotlib, its own signs taken as text."""
    return _shown(value).replace("$", r"\$")


def _timelines(page: Page) -> list[tuple[str, Markup]]:
    """A caption and its picture; without one, and last, where there is nothing to draw."""
    pictures = []
    for column, title, axis in (
        ("agreement", "Agreement with live, by day", "agreement"),
        ("error_rate", "Errors of the shadow, by day", "errors"),
        ("sampling_fraction", "Share of the captures that was sampled, by day", "sampled"),
    ):
        points = [
            Estimate(row["at"], row["deployment"], _role(row), row[column])
            for row in page.timeline
            if row[column] is not None
        ]
        if points and column == "error_rate" and not any(point.value for point in points):
            pictures.append((f"{title}: none on any day", Markup("")))
        elif points:
            pictures.append((title, _safe(charts.timeline(column.replace("_", "-"), title, axis, points))))
    return sorted(pictures, key=lambda each: not each[1])


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
