"""The verdict: whether the challenger may replace the live model, and the evidence for it.

`rules` is pure: numbers in, numbers out. The other modules store the plan, read the evidence, store the verdict and act
on it.
"""
