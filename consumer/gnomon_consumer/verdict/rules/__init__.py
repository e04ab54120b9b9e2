"""The rules that derive a verdict from plan and evidence: the same input gives the same verdict. No input or output."""
