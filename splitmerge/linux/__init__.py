"""What the parts ask of the Linux kernel: frames on an interface, what an interface does of its own accord, turns.

`afpacket`, `sendmmsg`: raw frames, in batches. `offloads`, `quiet`: interfaces as a lab needs them. `promptness`:
threads that packets wait for run soon. `forks`: why there is no further process.
"""
