"""The jobs of the benchmarks as an experienced user of each library would write them, each in a separate process."""
