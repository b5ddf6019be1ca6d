"""What the suites share: the server under test, functions on it, hand-made requests, and a view of the host."""
