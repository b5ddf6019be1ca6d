"""A handler in folders without `__init__.py`."""


def handler(event, context):
    return [__name__, event]
