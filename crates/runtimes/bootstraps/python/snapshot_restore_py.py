"""AWS's interface for functions with SnapStart: what they want done before a snapshot, and after each restore.

Part of the runtime as on AWS; a package of the same name in the function's own code comes first.
"""

_before_snapshot = []
_after_restore = []


def register_before_snapshot(func, *args, **kwargs):
    """Registers a call for the time before the snapshot. The newest is called first."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func, *args, **kwargs):
    """Registers a call for the time after each restore. The oldest is called first."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot():
    return list(_before_snapshot)


def get_after_restore():
    return list(_after_restore)
