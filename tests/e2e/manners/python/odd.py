"""Handlers that are no functions."""

number = 7


class Service:
    """Called as a handler, it is made; its instance cannot be written as JSON."""

    def __init__(self, event, context):
        self.event = event


class Methods:
    @staticmethod
    def static(event, context):
        return "static"
