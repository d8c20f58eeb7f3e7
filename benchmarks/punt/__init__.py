"""What `benchmarks.bench_punt` is made of."""
