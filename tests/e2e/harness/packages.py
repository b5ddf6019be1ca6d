"""Packages that nobody should send: each by name, with what is wrong about it."""

import functools
import io
import stat
import struct
import zipfile
import zlib

from harness.functions import add_entry, zip_of

GOOD = {"lambda_function.py": "def handler(event, context):\n    return 1\n"}
BOMB_BYTES = 300 << 20


def with_entries(*entries):
    """A zip with a handler and further `(path, content, mode)` entries, however odd."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in GOOD.items():
            add_entry(archive, path, content, stat.S_IFREG | 0o644)
        for path, content, mode in entries:
            add_entry(archive, path, content, mode)
    return buffer.getvalue()


def link(path, to):
    """An entry that is a symbolic link."""
    return path, to, stat.S_IFLNK | 0o777


def file(path, content="x"):
    """An entry that is a plain file."""
    return path, content, stat.S_IFREG | 0o644


def duplicate():
    """Two entries of one name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for content in ("first", "second"):
            add_entry(archive, "a_file.py", content, stat.S_IFREG | 0o644)
    return buffer.getvalue()


def encrypted():
    """An archive whose entries claim to be encrypted: the flag's bit set in both headers by hand."""
    content = bytearray(zip_of(GOOD))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(signature) + offset
        flags = struct.unpack_from("<H", content, place)[0]
        struct.pack_into("<H", content, place, flags | 1)
    return bytes(content)


@functools.cache
def bomb():
    """Half a megabyte that unpacks to 300 MB, over the 250 MB that a function may have."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("zeros", "w") as entry:
        for _ in range(BOMB_BYTES >> 20):
            entry.write(bytes(1 << 20))
    return buffer.getvalue()


def lying_bomb():
    """The same, but with headers that promise a single byte."""
    content = bytearray(bomb())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = content.index(signature) + offset
        struct.pack_into("<I", content, place, 1)
    return bytes(content)


def wrong_checksum():
    """An entry whose content is not what its checksum says."""
    content = bytearray(zip_of(GOOD))
    for signature, offset in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        place = content.index(signature) + offset
        struct.pack_into("<I", content, place, zlib.crc32(b"something else"))
    return bytes(content)


def unknown_method():
    """An entry packed by a method that nobody knows."""
    content = bytearray(zip_of(GOOD))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", content, content.index(signature) + offset, 77)
    return bytes(content)


#: Refused packages: name -> (maker of the bytes, a word that the message should hold).
REFUSED = {
    "empty": (lambda: b"", ""),
    "not a zip": (lambda: b"this is no zip at all" * 20, "unzip"),
    "truncated": (lambda: zip_of(GOOD)[:-30], "unzip"),
    "only an end record": (lambda: b"PK\x05\x06" + bytes(18), ""),
    "slip by dots": (lambda: with_entries(file("../outside.py")), "outside.py"),
    "slip in the middle": (lambda: with_entries(file("a/../../outside.py")), "outside.py"),
    "slip by an absolute path": (lambda: with_entries(file("/tmp/freehold-outside.py")), "outside.py"),
    "a link that leaves": (lambda: with_entries(link("leaving", "../../../etc/passwd")), "leaving"),
    "a link to an absolute path": (lambda: with_entries(link("leaving", "/etc/passwd")), "leaving"),
    "a file through a link": (lambda: with_entries(link("folder", "../.."), file("folder/outside.py")), "folder"),
    "links that leave together": (
        lambda: with_entries(link("a", "."), link("b", "a/../.."), file("b/outside.py")), ""),
    "a device": (lambda: with_entries(("device", "", stat.S_IFCHR | 0o666)), "device"),
    "a named pipe": (lambda: with_entries(("pipe", "", stat.S_IFIFO | 0o666)), "pipe"),
    "duplicate entries": (duplicate, "a_file.py"),
    "a file that is also a folder": (lambda: with_entries(file("both"), file("both/inside")), "both"),
    "encrypted": (encrypted, "ncrypt"),
    "a bomb": (bomb, "262144000"),
    "a bomb that lies about its size": (lying_bomb, ""),
    "a wrong checksum": (wrong_checksum, ""),
    "an unknown method": (unknown_method, ""),
    "a name with a zero byte": (lambda: zip_of(GOOD).replace(b"lambda_function.py", b"lambda_functi\0n.py"), ""),
    "a name of 5,000 bytes": (lambda: with_entries(file("n" * 5000)), ""),
    "a thousand folders deep": (lambda: with_entries(file("d/" * 2500 + "file")), ""),
}
