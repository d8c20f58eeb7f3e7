"""The REST API: an edge. What comes in is parsed and refused here; values become JSON, metrics and words here.

`api` has the routes, `shown` the values, `problems` the words of `GET /status`, `metrics` Prometheus' text. Imports
`orchestrator.service` and all below it; only the process (``__main__``) imports this.
"""
