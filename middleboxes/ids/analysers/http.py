"""HTTP/1 requests: those with SQL injection (§4.1) are signs. The reading is `middleboxes.ids.http`'s."""

from __future__ import annotations

from middleboxes.ids import http, sqli
from middleboxes.ids.analysis import ONLY_CLIENT, Reading, Side, Sign
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.http import HttpState


class HttpAnalyser:
    """Reads the client's side. A connection that is nothing else's is taken for HTTP: whatever its port."""

    name = "http"
    state = HttpState
    sides = ONLY_CLIENT
    ports: frozenset[int] = frozenset()
    first_bytes: frozenset[int] = frozenset()

    def __init__(self, config: IdsConfig) -> None:
        self._limits = http.Limits(head=config.max_head, body=config.max_body)
        self._parameters = config.max_parameters

    def begin(self) -> HttpState:
        """The state of a connection of which nothing was read."""
        return HttpState()

    def begins(self, payload: bytes, port: int) -> bool:
        """Whether it is a request line."""
        return http.begins_request(payload)

    def feed(self, state: HttpState, side: Side, data: bytes) -> Reading:
        """Take the next bytes of the client's stream."""
        malformed, overflows = state.malformed, state.overflows
        return self._reading(state, malformed, overflows, http.feed(state, data, self._limits))

    def gap(self, state: HttpState, side: Side, missing: int) -> Reading:
        """Tell what can be told of the request that is torn; then look for the next request line."""
        malformed, overflows = state.malformed, state.overflows
        return self._reading(state, malformed, overflows, http.gap(state, missing))

    def _reading(self, state: HttpState, malformed: int, overflows: int, requests: list[http.Request]) -> Reading:
        found = (sqli.injection(request, self._parameters) for request in requests)
        return Reading(
            messages=len(requests),
            signs=[Sign("sqli", value) for value in found if value is not None],
            malformed=state.malformed - malformed,
            overflows=state.overflows - overflows,
        )
