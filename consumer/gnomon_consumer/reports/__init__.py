"""Reports as rows: the same numbers for the terminal, JSON, CSV, the HTML file and `gnomon demo`.

Every report is one function of schema `report_v1`; this package calls it and renders the rows, and computes nothing
itself.
"""

from gnomon_consumer.reports.catalogue import REPORTS, Report
from gnomon_consumer.reports.query import Answer, Question, ask

__all__ = ["REPORTS", "Answer", "Question", "Report", "ask"]
