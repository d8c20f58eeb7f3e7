"""A libvirtd of an agent's own, and machines on it that are snapshotted once and restored many times."""
