"""A well-behaved function that lives beside the attackers: it holds secrets, and must answer all the while."""

import secrets
import threading
import time

from harness import functions, host
from harness.waiting import POLL_S

SOURCE = '''
import os, socket, threading, time

CODE_SECRET = "{code}"
MEMORY = [("{half}" + os.environ["SECOND_HALF"])[::-1]]  # in no file and no variable in this order

with open("{tmp_file}", "w") as file:
    file.write("{tmp}")

listener = socket.socket()
listener.bind(("0.0.0.0", {port}))
listener.listen(64)

def serve():
    while True:
        connection, _ = listener.accept()
        try:
            with connection:
                connection.sendall(b"{host_secret}")
        except OSError:
            pass  # who knocked has gone; the next is served

threading.Thread(target=serve, daemon=True).start()

def addresses():
    found, last = set(), ""
    for line in open("/proc/net/fib_trie"):
        if "|-- " in line:
            last = line.split("|-- ")[1].strip()
        elif "host LOCAL" in line:
            found.add(last)
    return sorted(found)

def handler(event, context):
    time.sleep({awake_s})
    return {{"addresses": addresses(), "request": context.aws_request_id, "event": event}}
'''
PORT = 18_999
#: How long it is awake for each event: its other thread gets to serve whoever knocks.
AWAKE_S = 0.01


class Neighbour:
    """The deployed function and a thread that asks it again and again."""

    def __init__(self, client, runtime, host_secret):
        code, self.memory, tmp, mark = (secrets.token_hex(16) for _ in range(4))
        half = len(self.memory) // 2
        self.mark = f"neighbour-{mark}"
        self.tmp_file = f"/tmp/neighbour-{mark}"
        reversed_memory = self.memory[::-1]
        source = SOURCE.format(code=code, half=reversed_memory[:half], tmp_file=self.tmp_file, tmp=tmp, port=PORT, awake_s=AWAKE_S,
                               host_secret=host_secret)
        self.function = functions.create(
            client, f"neighbour-{mark[:8]}", runtime, "lambda_function.handler", {"lambda_function.py": source}, Timeout=60,
            Environment={"Variables": {"MARK": self.mark, "SECOND_HALF": reversed_memory[half:]}})
        first = self.function({}).value()
        self.failures, self.slowest_s, self.answers = [], 0.0, 0
        self.target = {
            "code_secret": code, "memory_secret_reversed": reversed_memory, "tmp_file": self.tmp_file, "tmp_secret": tmp,
            "neighbour_addresses": first["addresses"], "neighbour_port": PORT, "neighbour_request": first["request"],
            "neighbours": host.with_variable(self.mark), "neighbour_mark": self.mark,
        }
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self):
        number = 0
        while not self._stop.wait(POLL_S):
            number += 1
            started = time.monotonic()
            try:
                value = self.function({"number": number}).value()
                if value["event"] != {"number": number}:
                    self.failures.append(f"wrong answer {value}")
            except Exception as problem:  # whatever it is, the neighbour did not get its answer
                self.failures.append(f"{type(problem).__name__}: {problem}"[:500])
            self.answers += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def stop(self):
        """Ends the thread."""
        self._stop.set()
        self._thread.join()
