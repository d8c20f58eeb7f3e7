"""Packets of a replica in their order: what comes, what waits for flows on their way, and how fast it goes on.

`dataplane`: markers and relayed packets. `holds`: where packets wait. `intake`, `pace`: the order of what has come, and
no more sent than the switch takes. `census`: how many come, by bucket.
"""
