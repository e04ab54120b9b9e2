"""How a verdict follows from plan and evidence: the same input gives the same verdict. No input or output."""
