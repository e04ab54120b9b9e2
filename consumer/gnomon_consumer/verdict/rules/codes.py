"""The codes of reasons: a closed vocabulary, each with one line of meaning."""

NO_METRIC = "NO_METRIC"
NOT_PROBABILITIES = "NOT_PROBABILITIES"
LABELS_DO_NOT_FIT = "LABELS_DO_NOT_FIT"
REJECTED_BEFORE = "REJECTED_BEFORE"
WORSE = "WORSE"
SEGMENT_WORSE = "SEGMENT_WORSE"
SEGMENT_HARM = "SEGMENT_HARM"
SHOWN = "SHOWN"
LABELS_DECIDE = "LABELS_DECIDE"
DAYS_DEPEND = "DAYS_DEPEND"
ERRORS = "ERRORS"
MORE_ERRORS = "MORE_ERRORS"
LATENCY_SLA = "LATENCY_SLA"
LATENCY_CONTROL = "LATENCY_CONTROL"
DAYS = "DAYS"
VOLUME = "VOLUME"
ANSWERED = "ANSWERED"
COMPARED = "COMPARED"
COVERAGE = "COVERAGE"
LEDGER = "LEDGER"
LABEL_COVERAGE = "LABEL_COVERAGE"
LABEL_CELL = "LABEL_CELL"
DRIFT = "DRIFT"
CONTROL = "CONTROL"
CONTROL_DISAGREES = "CONTROL_DISAGREES"
NOISE_FLOOR = "NOISE_FLOOR"
NO_WAY_BACK = "NO_WAY_BACK"
LIVE_CHANGED = "LIVE_CHANGED"
PLAN_CHANGED = "PLAN_CHANGED"

MEANINGS: dict[str, str] = {
    NO_METRIC: "No sealed request says anything about the metric, or one side has no denominator.",
    NOT_PROBABILITIES: "The metric needs probabilities, and a value lies outside of 0 to 1.",
    LABELS_DO_NOT_FIT: "No decision ever equals a label, or no label has what the metric compares with.",
    REJECTED_BEFORE: "An earlier verdict of the same plan rejected the challenger; another plan starts again.",
    WORSE: "The upper bound of a metric is below minus its margin.",
    SEGMENT_WORSE: "The upper bound of a required segment is below minus its margin.",
    SEGMENT_HARM: "A segment loses more than the margin; e-BH over all segments that are watched.",
    SHOWN: "Whether the lower bound of a metric or required segment passed at the last look.",
    LABELS_DECIDE: "Whether the bound still passes with weights for missing labels, and with their worst values.",
    DAYS_DEPEND: "Days depend on each other, so whole weeks are the sample; how many are still missing.",
    ERRORS: "The challenger's error rate against the highest one allowed.",
    MORE_ERRORS: "Units in which only the challenger failed against those in which only live did.",
    LATENCY_SLA: "The share of requests over the agreed latency.",
    LATENCY_CONTROL: "The share of requests over the control's p95, against the control's own.",
    DAYS: "Whole local days in sealed cohorts since the live model last changed.",
    VOLUME: "Too few rows: scored, on one day, effective, or of one true class.",
    ANSWERED: "The share of requests that both sides answered.",
    COMPARED: "The share of answered requests that the plan's comparison could compare, and what it ignored.",
    COVERAGE: "The share of offered captures that were judged.",
    LEDGER: "The ledger does not close, or live records expired before they were joined.",
    LABEL_COVERAGE: "The weighted share of requests with a label.",
    LABEL_CELL: "A cell of (live decision, shadow decision) in which too few requests have a label.",
    DRIFT: "A feature drifted from its reference and is not in drift_expected.",
    CONTROL: "The deployment is a control.",
    CONTROL_DISAGREES: "The control differs from live by more than is allowed: the shadow sees other inputs.",
    NOISE_FLOOR: "How much the control differs from live.",
    NO_WAY_BACK: "The plan names no way back.",
    PLAN_CHANGED: "The plan changed after the start; evidence counts from then on.",
    LIVE_CHANGED: "The live model changed; earlier days are shown apart.",
}
