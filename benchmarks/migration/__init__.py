"""What moves cost: the parts of `benchmarks.bench_migration`."""
