"""A parent of embedded servers and of a tied child, for tests that kill it."""

PARENT = """
import sys, time
from gnomon_consumer.quickstart.embedded.start import start_kafka, start_postgres
from gnomon_consumer.runtime.parent_death import leashed
import subprocess
kafka, database = start_kafka(), start_postgres()
sleeper = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
child = subprocess.Popen(leashed(sleeper), stdout=subprocess.PIPE)
child.stdout.readline()
print("ready", flush=True)
time.sleep(600)
"""
