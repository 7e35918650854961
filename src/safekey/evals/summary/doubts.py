"""What in a run's answers may be a mistake of the splitter: blocks that look like thinking, judged as answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from safekey.evals.records.rows import Row, completion_in
from safekey.text.thinking import split_completion, thinking_in_answer


def thinking_in_answers(completions: Iterable[Row]) -> tuple[str, ...]:
    """Return one line for each benchmark and tag with answers that hold such a tag."""
    found = Counter[tuple[str, str]]()
    for row in completions:
        if row["output"] == "ok" and (tag := thinking_in_answer(split_completion(completion_in(row)))):
            found[row["benchmark"], tag] += 1
    return tuple(
        f"{benchmark}: {count} answers hold {tag}, and so perhaps thinking. It is judged as a part of the answer; "
        "read some of them"
        for (benchmark, tag), count in found.items()
    )
