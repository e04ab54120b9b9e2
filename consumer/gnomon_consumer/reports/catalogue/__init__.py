"""The list of all reports."""

from gnomon_consumer.reports.catalogue.answers import ANSWERS
from gnomon_consumer.reports.catalogue.features import FEATURES, SKEW
from gnomon_consumer.reports.catalogue.shape import Column, Report
from gnomon_consumer.reports.catalogue.traffic import TRAFFIC
from gnomon_consumer.reports.catalogue.truth import TRUTH

REPORTS: dict[str, Report] = {report.name: report for report in (*ANSWERS, *TRUTH, *FEATURES, *TRAFFIC)}

__all__ = ["REPORTS", "SKEW", "Column", "Report"]
