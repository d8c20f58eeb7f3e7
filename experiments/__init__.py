"""The paper's section 5, repeated: `python -m experiments` (docs/evaluation.md)."""
