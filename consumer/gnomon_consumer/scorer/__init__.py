"""`gnomon score`: read the live topic, sample it, score the sample in sandboxed workers, commit windows.

The way of a capture, a folder for each stage:

    intake/     the group assigns partitions; each resumes after the last window of the shadow log; captures are read
    sampling/   each capture gets a rank; the smallest ranks of each stratum stay in the open window's reservoir (pure)
    sealed/     a tick seals the open windows; the sampled rows wait for outcomes; a transaction commits everything
    pool/       the scorer's side of the workers: rows go out as jobs, outcomes come back as messages
    worker/     the worker's side, in a sandboxed process: decode, call the model, encode outcomes

`worker/` runs next to a model that may be hostile. It imports nothing of the other folders, and the pool accepts from
it only the model's answers, in columns that it checks. Two more folders use the same pool: `rehearsal/` before the
first capture (golden file, warm-up, load test), `replay/` for recorded windows.

One main thread does all work of the first three stages, step by step: `loop.py` has the order, `service.py` makes the
parts. It never waits for a worker. Other threads have one purpose each:

    gnomon-commit      waits for the broker's answer to a transaction; workers' results are accepted meanwhile
    two per worker     one writes and reads its pipe, one reads what the model prints
    gnomon-stop        receives signals
    metrics            serves /metrics, /healthz and /readyz

Per worker there are two processes: a keeper, which ends every process that the worker leaves behind, and the worker.
docs/architecture.md has the drawing, and what each stage may block on.
"""
