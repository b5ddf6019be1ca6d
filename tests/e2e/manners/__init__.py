"""The manners of runtimes: shared case functions, AWS's own runtime clients to run them on, and the table that compares both."""
