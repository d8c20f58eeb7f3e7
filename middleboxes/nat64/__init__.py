"""Stateful NAT64 (paper §2.1): IPv6-only hosts reach IPv4 servers. RFC 6146, 7915 and 6052."""
