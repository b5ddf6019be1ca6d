print("importing")


def prepare():
    raise RuntimeError("too early")


prepare()
