"""Parts of the switch benchmark; see benchmarks/bench_switch.py."""
