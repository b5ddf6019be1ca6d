"""docs/manners.md: a section for each runtime, between marks, made of what the test has seen."""

from manners.table import row

#: Node.js 20 behaves as 22 does: its cases are compared, and not shown.
RUNTIMES = ("python3.11", "nodejs22.x", "nodejs24.x")
HEAD = "| case | ours | AWS's client | same? |\n|---|---|---|---|\n"


def marks(runtime):
    """What a runtime's section stands between."""
    return f"<!-- {runtime}: begin -->\n", f"<!-- {runtime}: end -->\n"


def render(runtime, seen):
    """The section of what was seen: `{heading: [(case, ours, theirs)]}`."""
    parts = []
    for heading, cases in seen.items():
        rows = "\n".join(row(case, ours, theirs) for case, ours, theirs in cases)
        parts.append(f"\n### {heading}\n\n{HEAD}{rows}\n")
    return "".join(parts)


def section(path, runtime):
    """The section as the page has it."""
    begin, end = marks(runtime)
    text = path.read_text(encoding="utf-8")
    return text.partition(begin)[2].partition(end)[0]


def write(path, runtime, seen):
    """Puts the section into the page."""
    begin, end = marks(runtime)
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    path.write_text(before + begin + render(runtime, seen) + end + after, encoding="utf-8")
