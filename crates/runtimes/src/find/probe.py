import importlib.util, json, marshal, os, sys

# A bytecode file that is never checked against its source: the interpreter's mark, then twelve bytes of zeros.
header = importlib.util.MAGIC_NUMBER + bytes(12)
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": "%d.%d.%d" % sys.version_info[:3],
    "executable": os.path.realpath(sys.executable),
    "prefix": os.path.realpath(sys.base_prefix),
    "bytecode": [
        (header + marshal.dumps(compile(source, path, "exec", dont_inherit=True))).hex()
        for path, source in json.loads(sys.stdin.buffer.read())
    ],
}))
