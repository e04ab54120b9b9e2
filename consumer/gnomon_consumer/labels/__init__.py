"""Labels from the topic and from files, heartbeats of producers, and the sealing of cohorts."""
