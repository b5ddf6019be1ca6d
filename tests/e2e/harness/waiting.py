"""Waiting for a condition with a deadline: the only way in which these tests let time pass."""

import time

POLL_S = 0.02


#: How long anything may take before it counts as stuck, on a machine whose processors and disks are busy with much else.
PATIENCE_S = 60.0


def wait_until(condition, what, deadline_s=PATIENCE_S):
    """The first true value of `condition()`; fails, saying `what` did not happen, after the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(POLL_S)
