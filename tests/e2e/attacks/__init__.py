"""Functions that try to get out of their environment or to hurt the host.

Each takes a `target` (what there is to reach, hurt or read) and says whether it succeeded and why. The same code runs in a
sandbox (the attack) and on the host as root (the positive control), so that a refusal is known to be the sandbox's doing.
Nothing here uses more than Python's standard library.
"""
