"""The report as one HTML file: no script, no external address, light and dark, fit for print and screen readers."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from psycopg.rows import DictRow

from gnomon_consumer.reports import pictures, wording
from gnomon_consumer.reports.numbers import NOTHING, number, with_interval
from gnomon_consumer.reports.page import Page
from gnomon_consumer.runtime.visible import visible

# The rows of the table of errors: their titles, metric and side.
ERRORS = (
    ("live fails", "error", "live"),
    ("shadow fails", "error", "shadow"),
    ("shadow minus live", "error", "difference"),
    ("shadow fails by time-out", "timed_out", "pair"),
    ("only live fails", "only_live_failed", "pair"),
    ("only the shadow fails", "only_shadow_failed", "pair"),
    ("both fail", "both_failed", "pair"),
)
# The note on an interval that does not use the clusters of its own pairs.
BY = {
    "cohort": "; for clusters, the interval uses the newest sealed cohort",
    "rows": "; the interval does not account for clusters yet",
}


def render(page: Page) -> str:
    """Return the whole file as text."""
    environment = Environment(
        loader=PackageLoader("gnomon_consumer.reports"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"as": _number, "quality_name": wording.NAMES.__getitem__}
    environment.globals.update(
        estimate=wording.estimate, interval=wording.interval, name=wording.NAMES.__getitem__, measure=wording.measure,
        difference=wording.difference, favours=wording.favours, standard_error=wording.standard_error,
        per_cent=wording.per_cent, distance=wording.distance,
        features=_features, reasons=_reasons, answer=_answer, slice_title=pictures.slice_title, place=pictures.shown,
        nothing=NOTHING,
    )  # fmt: skip
    quality = _quality(page)
    return environment.get_template("report.html.j2").render(
        page=page,
        slice_chart=lambda slice_, rows: pictures.of_slice(page, slice_, rows),
        key=lambda row: _key(page, row),
        slice_number=lambda row: wording.slice_number(row, page.by_values),
        cards=[_card(page, row) for row in page.challengers],
        evidence=any(row.get("n") for row in page.reports["agreement"]),
        quality=quality,
        classes=_classes(page),
        quality_chart=pictures.quality(page, quality),
        labelled=_labelled(page),
        quality_statuses=_quality_statuses(page),
        confusions=_confusions(page),
        latencies=_latencies(page),
        errors=_errors(page),
        pictures=pictures.timelines(page),
    )


def _visible(value: Any) -> Any:
    """Return a text of the database without characters that a browser hides or obeys, such as direction marks."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _number(value: Any, kind: str) -> str:
    """Return a number in the usual format, with a typographic minus."""
    return wording.minus(number(value, kind)) if isinstance(value, int | float) else number(value, kind)


def _key(page: Page, row: DictRow) -> str:
    """Return the classes of the sign next to a deployment's name: colour and shape as in the pictures."""
    look = page.look(row["deployment"])
    return "control" if look < 0 else f"c{look % 4 + 1} m{look % 6 + 1}"


def _card(page: Page, deployment: DictRow) -> list[dict[str, Any]]:
    """Return the four dashboard numbers of a challenger, each with the control's."""
    specifications: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
        ("agreement", "Agreement with live", "agreement", "share", {}),
        ("latency", "95% of answers within", "microseconds", "µs", {"measure": "shadow", "quantile": 0.95}),
        ("errors", "Errors of the shadow", "rate", "share", {"metric": "error", "side": "shadow"}),
        ("coverage", "Coverage: captures not lost", "coverage", "share", {}),
    )
    cards = []
    for report, title, source, kind, wanted in specifications:
        mine = page.find_row(report, deployment["deployment"], **wanted)
        theirs = page.find_row(report, page.control["deployment"], **wanted) if page.control else {}
        status = (mine or page.find_row(report, deployment["deployment"])).get("status", "ok")
        numbers = mine.get("compares") == "values"
        say = wording.mean_difference if numbers else partial(wording.with_interval, source=source, kind=kind)
        (value, interval), (control, control_interval) = say(mine), say(theirs)
        cards.append(
            {
                "title": "Shadow minus live, on average" if numbers else title,
                "value": value,
                "interval": interval,
                "status": "" if status == "ok" else status,
                "of": "; ".join(filter(None, (wording.distance(mine) if numbers else "", _behind(report, mine)))),
                "control": control,
                "control_interval": control_interval,
            }
        )
    return cards


def _behind(report: str, row: DictRow) -> str:
    """Return the amount of data that a dashboard number rests on."""
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
    """Return one entry for each (horizon, deployment, metric), with live, shadow and difference."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in page.quality:
        key = (wording.days(row["horizon"].total_seconds()), row["deployment"], row["metric"])
        entry = found.setdefault(key, {"horizon": key[0], "deployment": key[1], "metric": key[2], "role": row["role"]})
        entry[row["side"]] = row
    # Unanswered requests are shown among the errors.
    entries = [entry for entry in found.values() if "difference" in entry and entry["metric"] != "answered"]
    for entry in entries:
        entry["equal"] = wording.is_equal(entry)
    return entries


def _classes(page: Page) -> list[dict[str, Any]]:
    """Return one entry a (challenger, class, metric) with its three sides; the means over classes come first."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in page.classes:
        if row["class"] is not None and row["role"] != "control":
            key = (row["deployment"], row["class"], row["metric"])
            entry = found.setdefault(key, dict(zip(("deployment", "class", "metric"), key, strict=True)))
            entry[row["side"]] = row
    entries = [entry for entry in found.values() if entry["difference"]["estimate"] is not None]
    return sorted(entries, key=lambda entry: not entry["class"].endswith(" avg"))


def _labelled(page: Page) -> Mapping[str, dict[str, DictRow]]:
    """Return label coverage: one row for each horizon, one cell for each deployment."""
    found: dict[str, dict[str, DictRow]] = {}
    for row in page.quality:
        if row["metric"] == "label_coverage":
            found.setdefault(wording.days(row["horizon"].total_seconds()), {})[row["deployment"]] = row
    return found


def _quality_statuses(page: Page) -> list[tuple[str, str]]:
    """Return the reasons and warnings of quality metrics: deployment and status, each once."""
    found = {(str(row["deployment"]), str(row["status"])): None for row in page.quality if row["status"] != "ok"}
    return list(found)


def _confusions(page: Page) -> list[dict[str, Any]]:
    """Return one table for each deployment: live decisions in rows, the shadow's in columns, shares in cells."""
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
    """Return one entry for each (deployment, measure) with its quantiles in order; live, common to all, once."""
    names = {"live_all": "live", "shadow": "shadow", "difference": "shadow minus live"}
    found: dict[tuple[str, str], list[DictRow]] = {}
    for row in page.reports["latency"]:
        if row["microseconds"] is not None and row["measure"] in names:
            who = "live" if row["measure"] == "live_all" else row["deployment"]
            rows = found.setdefault((who, names[row["measure"]]), [])
            if len(rows) < 3:
                rows.append(row)
    return [
        {"row": None if who == "live" else rows[0], "measure": name, "n": rows[0]["n"], "quantiles": rows}
        for (who, name), rows in found.items()
    ]


def _errors(page: Page) -> list[tuple[str, list[DictRow]]]:
    """Return error shares: one row for each measure, one cell for each deployment; finer measures only if present."""
    rows = [
        (title, [page.find_row("errors", each["deployment"], metric=metric, side=side) for each in page.deployments])
        for title, metric, side in ERRORS
    ]
    known = [row for row in rows if any(cell.get("rate") is not None for cell in row[1])]
    return [*known[:3], *(row for row in known[3:] if any(cell.get("rate") for cell in row[1]))]


def _reasons(sentence: str) -> str:
    """Return the sentence of a verdict without the decision at its beginning, which is shown above it."""
    words = sentence.partition(": ")[2] or sentence
    return words[:1].upper() + words[1:]


def _features(row: DictRow) -> str:
    """Return a pair's features by name, as short text."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in (row["features"] or {}).items()
    )


def _answer(row: DictRow, who: str) -> str:
    """Return one side's answer to a request, or its truth, with enough decimals to distinguish live and shadow."""
    value, label, items = (row[f"{who}_{what}"] for what in ("value", "label", "list"))
    if value is not None and not (who == "truth" and label):
        ends = [row[side] for side in ("live_value", "shadow_value")]
        if None not in ends and ends[0] != ends[1]:
            value, _ = with_interval(value, min(ends), max(ends), "number")
        else:
            value = number(value, "figure")
        value = wording.minus(value)
        return f"{label or ''} {value}".strip()
    return label or " > ".join(items or ()) or NOTHING
