"""Writes JSON for values that the interpreter's own encoder does not know as AWS's runtime does: decimals as numbers,
named tuples and other records as objects, bytes as text.

Slow, and loaded only when such a value is met.
"""

import decimal


def encode(value, encode_string):
    parts = []
    write(value, parts.append, encode_string, set())
    return "".join(parts)


def write(value, out, encode_string, open_ids):
    if value is None or value is True or value is False or isinstance(value, (str, bytes, int, float)):
        out(scalar(value, encode_string))
        return
    if id(value) in open_ids:
        raise ValueError("Circular reference detected")
    open_ids.add(id(value))
    as_record = getattr(value, "_asdict", None)
    if isinstance(value, list):
        write_items(value, out, encode_string, open_ids)
    elif callable(as_record) and not isinstance(value, type):
        write_members(as_record(), out, encode_string, open_ids)
    elif isinstance(value, tuple):
        write_items(value, out, encode_string, open_ids)
    elif isinstance(value, dict):
        write_members(value, out, encode_string, open_ids)
    elif isinstance(value, decimal.Decimal):
        out("NaN" if value.is_nan() else str(value))
    else:
        raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)
    open_ids.discard(id(value))


def write_items(items, out, encode_string, open_ids):
    separator = "["
    for item in items:
        out(separator)
        write(item, out, encode_string, open_ids)
        separator = ", "
    out("[]" if separator == "[" else "]")


def write_members(members, out, encode_string, open_ids):
    separator = "{"
    for name, value in members.items():
        if isinstance(name, bytes):
            name = name.decode("utf-8")
        elif name is None or isinstance(name, (bool, int, float)):
            name = scalar(name, encode_string)
        elif not isinstance(name, str):
            raise TypeError("keys must be str, int, float, bool or None, not " + type(name).__name__)
        out(separator)
        out(encode_string(name))
        out(": ")
        write(value, out, encode_string, open_ids)
        separator = ", "
    out("{}" if separator == "{" else "}")


def scalar(value, encode_string):
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return encode_string(value)
    if isinstance(value, bytes):
        return encode_string(value.decode("utf-8"))
    if isinstance(value, int):
        return int.__repr__(value)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)
