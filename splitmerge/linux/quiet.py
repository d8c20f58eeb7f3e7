"""Interfaces whose kernel sends nothing of its own accord: all that the switch sees is to be somebody's traffic."""

from __future__ import annotations

from pathlib import Path

_SETTINGS = {
    "accept_ra": "0",
    "router_solicitations": "0",
    "accept_dad": "0",
    "addr_gen_mode": "1",
    "mldv1_unsolicited_report_interval": "0",
    "mldv2_unsolicited_report_interval": "0",
}


def quiet(interface: str) -> None:
    """No router solicitations, no link-local addresses, no duplicate address detection; ``all`` and ``default`` do too.

    Nor are routers told, for a second and more, which groups new addresses are in (MLD, RFC 3810 §9.11): it is done at
    once, when no switch listens yet. Else the switch would drop these reports, and count them.
    """
    for name, value in _SETTINGS.items():
        path = Path(f"/proc/sys/net/ipv6/conf/{interface}/{name}")
        if path.exists():
            path.write_text(value)
