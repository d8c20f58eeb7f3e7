"""From signs to alerts: how many of a kind are an attack, of one flow and of one client. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from middleboxes.ids.analysis import Sign
from middleboxes.ids.config import IdsConfig


class Rule(NamedTuple):
    """When a kind of sign alerts: at *more* than so many. None: never."""

    analyser: str
    flow: int | None
    """Of one flow."""
    client: int | None
    """Of one client's flows together, over all replicas, within a window."""


def rules_of(config: IdsConfig) -> dict[str, Rule]:
    """The rules by kind of sign."""
    return {
        "sqli": Rule("http", config.sqli_thresh, config.client_sqli_thresh),
        "ftp-login": Rule("ftp", config.login_thresh, config.client_login_thresh),
        "dns-nxdomain": Rule("dns", None, config.client_nxdomain_thresh),
        "dns-tunnel": Rule("dns", None, config.client_tunnel_thresh),
        "tls-name": Rule("tls", 0, None),
        "tls-version": Rule("tls", 0, None),
        "scan": Rule("tcp", None, config.client_scan_thresh),
    }


class Passed(NamedTuple):
    """A sign that passed a threshold."""

    sign: Sign
    number: int
    """Signs of its kind so far, this one included."""


def judge(rules: Mapping[str, Rule], counts: dict[str, int], alerted: set[str], signs: Sequence[Sign]) -> list[Passed]:
    """Count a flow's signs; those that alert, one a kind at most, and none of a kind that has ``alerted``.

    It is the sign that passes the threshold, however the flow's bytes were cut; after a lost alert, the next one.
    """
    passed: dict[str, Passed] = {}
    for sign in signs:
        count = counts[sign.kind] = counts.get(sign.kind, 0) + 1
        most = rules[sign.kind].flow
        if most is not None and count > most and sign.kind not in alerted:
            passed.setdefault(sign.kind, Passed(sign, count))
    return list(passed.values())
