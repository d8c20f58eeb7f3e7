"""Talk to a running orchestrator: its REST API over a Unix socket."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from splitmerge.errors import BadInput, NoAnswerYet, PeerError, Unavailable, Unreachable


class OrchestratorClient:
    """Blocking client of the REST API (``docs/api.md``). Close it, or use it in a ``with``.

    :param socket: path of the orchestrator's Unix socket.
    :param timeout: seconds to wait for an answer; moves that are waited for take as long as they take, up to this.
    :param localised: makes of a remedy one for this lab: the orchestrator does not know how its lab is named.
    """

    def __init__(self, socket: Path, timeout: float = 30.0, localised: Callable[[str], str] = str) -> None:
        self.socket = socket
        self.timeout = timeout
        self._localised = localised
        # verify=False: there is no TLS on a Unix socket, and to read certificates for it takes 40 ms of processor time.
        transport = httpx.HTTPTransport(uds=str(socket), verify=False)
        self._http = httpx.Client(transport=transport, base_url="http://orchestrator", timeout=timeout)

    def get(self, path: str, **query: Any) -> Any:
        """GET; query parameters that are None are left out.

        :raises BadInput: if the orchestrator finds the request wrong (4xx), with its place and remedy.
        :raises PeerError: if it cannot be reached or fails; `Unavailable` if it cannot do it now, `NoAnswerYet` if it
            lets one wait for longer than ``timeout``.
        """
        return self._request("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST a JSON body; raises as `get` does, and BadInput for numbers that JSON does not have."""
        for name, value in body.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise BadInput(f"request: {name}", f"{value}", "a finite number")
        return self._request("POST", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """PATCH a JSON body; raises as `get` does."""
        return self._request("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        """DELETE; raises as `get` does."""
        return self._request("DELETE", path)

    def _request(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._http.request(method, path, **options)
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout) as error:
            remedy = f"a lab starts it again: try in a few seconds; log: {self.socket.parent}/logs/orchestrator.log"
            problem = f"does not answer: {str(error) or 'it is gone'}"
            asked = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise Unreachable(f"the orchestrator at {self.socket}", problem, remedy, asked=asked) from error
        except httpx.ReadTimeout as error:
            raise NoAnswerYet(f"the orchestrator at {self.socket}", self.timeout) from error
        except httpx.HTTPError as error:
            raise PeerError(f"the orchestrator at {self.socket} does not answer: {error}") from error
        if response.is_success:
            return response.json()
        raise _refusal(response, self._localised)

    def close(self) -> None:
        """Close the connections; again is harmless."""
        self._http.close()

    def __enter__(self) -> OrchestratorClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _refusal(response: httpx.Response, localised: Callable[[str], str]) -> BadInput | PeerError:
    try:
        body = response.json()
        problem, where, remedy = str(body["error"]), str(body.get("where", "")), str(body.get("remedy", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return PeerError(f"the orchestrator answered {response.status_code}: {response.text[:200]}")
    if response.is_client_error:
        place = where.removeprefix("body.")  # of the request: who gave a command wrote none
        return BadInput(place or "request", problem, localised(remedy))
    if not where or where == response.request.url.path:  # the text has a subject of its own
        return PeerError(problem + (f" ({localised(remedy)})" if remedy else ""))
    return Unavailable(where, problem, localised(remedy))
