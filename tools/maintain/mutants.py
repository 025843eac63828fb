"""mutmut's mutants, run in one warm process: tests are collected once (torch is imported once), and each mutant is a fork.

``mutmut run`` starts pytest anew for each mutant (0.5 s and more, times 12 000) and lets a loop without an end run for minutes.
Which mutants there are, where they are kept (``mutants/``), and what shows them (``mutmut results | show | browse``) stays mutmut's.

    make mutants [MUTANTS='senna_autoprune.nuscenes.rules*'] [SAMPLE=0.1] [AGAIN=1]
"""

import argparse
import fnmatch
import gc
import hashlib
import json
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from contextlib import redirect_stdout
from pathlib import Path

import hypothesis
import pytest
from mutmut.__main__ import create_mutants
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, setup_source_paths, walk_mutatable_files
from mutmut.utils.format_utils import mangled_name_from_mutant_name

TIMED_OUT, UNTESTED, SURVIVED, KILLED = 36, 33, 0, 1  # mutmut's exit codes
SLOWER = 10  # times as slow as unmutated, and two seconds: has no end
MEMORY = 8 << 30  # bytes a mutant may take on top of what this process has


class Mutants:
    """A pytest plugin: in place of running the collected tests once, runs those of each mutant in a fork of this process."""

    def __init__(self, names: list[str], sample: float, again: bool, enough: float) -> None:
        self.names, self.sample, self.enough = names, sample, enough
        self.results = (None, SURVIVED, UNTESTED) if again else (None,)  # of those to run
        self.seconds: dict[str, float] = {}  # of each test, unmutated
        self.tests: dict[str, set[str]] = {}  # those that call a function
        self.calls: Counter[str] = Counter()  # how many functions a test calls
        self.set_up: set[str] = set()  # functions called by the set-up of the test that runs
        self.failed: list[str] = []

    def pytest_sessionstart(self) -> None:
        """No shrinking, no examples remembered from one mutant to the next; the same examples for each."""
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", hypothesis.settings(), phases=phases, database=None, derandomize=True)
        hypothesis.settings.load_profile("mutants")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        limit = 2 + SLOWER * self.seconds[item.nodeid] if item.nodeid in self.seconds else 60
        signal.setitimer(signal.ITIMER_PROF, limit)  # of processor time: a machine that is busy makes no time-outs
        signal.setitimer(signal.ITIMER_REAL, 30 + 10 * limit)  # but one that waits for nothing takes none
        return (yield)

    def pytest_runtest_call(self) -> None:
        self.set_up = set(state()._stats)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        self.measure(list(items.values()))
        print(f"\n{len(items)} tests of {sum(self.seconds.values()):.0f} s; {len(self.tests)} functions called by them", flush=True)
        gc.freeze()  # children copy no page for the collector's sake
        last: dict[str, list[str]] = defaultdict(list)  # function: tests that killed a mutant of it, the last one first
        for data, mutant in self.chosen():
            function = mangled_name_from_mutant_name(mutant)
            order = self.order(function, last[function])
            start = time.time()
            code, killer = self.one([items[t] for t in order], mutant) if order else (UNTESTED, "")
            data.exit_code_by_key[mutant], data.durations_by_key[mutant] = code, time.time() - start
            data.save()
            if killer:
                last[function] = [killer, *(t for t in last[function] if t != killer)][:8]
            if code != KILLED:
                print(f"{status_by_exit_code[code]:10} {mutant} ({len(order)} tests, {time.time() - start:.1f} s)", flush=True)
        return True

    def measure(self, items: list[pytest.Item]) -> None:
        """Runs all tests, unmutated, in a fork; tests that fail as they are (a mutated module's source is not its own) are left out."""

        def run() -> tuple[int, object]:
            set_mutant_under_test("stats")
            seconds, tests, files = {}, defaultdict(set), defaultdict(set)
            for item, following in zip(items, [*items[1:], None], strict=True):
                state()._stats.clear()
                self.set_up = set()
                start, before = time.process_time(), len(self.failed)
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                files[item.nodeid.partition("::")[0]] |= self.set_up
                if len(self.failed) == before:
                    seconds[item.nodeid] = time.process_time() - start
                    for function in state()._stats:
                        tests[function].add(item.nodeid)
            for test in seconds:  # what a fixture called, it called for all that share it
                for function in files[test.partition("::")[0]]:
                    tests[function].add(test)
            return 0, [seconds, {function: sorted(called) for function, called in tests.items()}, self.failed]

        os.environ["MUTMUT_DEPENDENCY_DEPTH"] = "-1"
        kept = Path("mutants/tests.json")  # while no test and no source is newer
        ids = [item.nodeid for item in items]
        newest = max(path.stat().st_mtime for room in ("tests", "senna_autoprune") for path in Path(room).rglob("*.py"))
        known, result = json.loads(kept.read_bytes()) if kept.exists() and kept.stat().st_mtime > newest else (None, None)
        if known != ids:
            code, result = forked(run)
            if result is None:
                raise SystemExit(f"the tests ended the process they ran in (exit status {code})")
            kept.write_text(json.dumps([ids, result]))
        self.seconds, tests, failed = result
        self.tests = {function: set(called) for function, called in tests.items()}
        self.calls = Counter(test for tests in self.tests.values() for test in tests)
        for test in failed:
            print(f"left out, fails unmutated: {test}")

    def order(self, function: str, killers: list[str]) -> list[str]:
        """Tests of a function: those that killed a mutant of it, then those of its own file and the first of every other file, the second,
        and so on: a function that all of them call is told apart by few. In a file, those first that call the fewest functions.
        ``enough`` seconds of them.
        """
        own = f"test_{function.rpartition('.')[0].rpartition('.')[2]}"
        rest = sorted(self.tests.get(function, set()) - set(killers), key=lambda t: (self.calls[t], self.seconds[t]))
        seen: Counter[str] = Counter()
        turn: dict[str, int] = {}
        for test in rest:
            file = test.partition("::")[0]
            seen[file] += 1
            turn[test] = seen[file] // 4 if Path(file).stem == own else seen[file]  # four of its own for one of another
        rest.sort(key=turn.__getitem__)  # stable
        order, spent = [*killers], 0.0
        for test in rest:
            spent += self.seconds[test]
            if order and spent > self.enough:
                break
            order.append(test)
        return order

    def one(self, items: list[pytest.Item], mutant: str) -> tuple[int, str]:
        """Exit code of a mutant and the test that killed it."""

        def run() -> tuple[int, object]:
            set_mutant_under_test(mutant)
            for item, following in zip(items, [*items[1:], None], strict=True):
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if self.failed:
                    return KILLED, item.nodeid
            return SURVIVED, ""

        code, killer = forked(run)
        return (TIMED_OUT, "") if code in (-signal.SIGPROF, -signal.SIGALRM) else (KILLED if code < 0 else code, str(killer or ""))

    def chosen(self) -> list[tuple[SourceFileMutationData, str]]:
        """Those named, or those that have no result yet (or live, if again), of the sample; file by file."""

        def wanted(mutant: str, code: int | None) -> bool:
            named = any(fnmatch.fnmatch(mutant, name) for name in self.names) if self.names else code in self.results
            return named and int(hashlib.sha256(mutant.encode()).hexdigest()[:8], 16) < self.sample * 16**8

        chosen = []
        for path in sorted(walk_mutatable_files()):
            data = SourceFileMutationData(path=path)
            data.load()
            chosen += [(data, mutant) for mutant, code in data.exit_code_by_key.items() if wanted(mutant, code)]
        print(f"{len(chosen)} mutants to run")
        return chosen


def forked(run: Callable[[], tuple[int, object]]) -> tuple[int, object]:
    """``run`` in a fork without output: its exit code (minus the signal that ended it) and what it returned besides, or None."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code, result = 1, None
        try:
            os.chdir("mutants")  # as the tests expect; results' names are relative to the root, where the parent stays
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
            code, result = run()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            with os.fdopen(write, "w") as pipe:
                json.dump(result, pipe)
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        raw = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), json.loads(raw) if raw else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants to run again, as mutmut names them, with wildcards; none: all without a result")
    parser.add_argument("--sample", type=float, default=1.0, help="share of the mutants to run, by the hash of their names")
    parser.add_argument("--again", action="store_true", help="also those that survived or had no test")
    parser.add_argument(
        "--enough", type=float, default=2.0, help="seconds of tests that a mutant outlives: some functions are called by 800"
    )
    args = parser.parse_args()
    Path("mutants").mkdir(exist_ok=True)
    set_mutant_under_test("mutant_generation")
    with open(os.devnull, "w") as null, redirect_stdout(null):
        copy_src_dir()
        copy_also_copy_files()
        create_mutants(1)
    setup_source_paths()
    set_mutant_under_test("")
    plugin = Mutants(args.names, args.sample, args.again, args.enough)
    options = ["-q", "--rootdir=mutants", "--assert=plain", "--capture=no", "--tb=line", "-p", "no:randomly", *config().pytest_add_cli_args]
    code = pytest.main([*options, *(f"mutants/{path}" for path in config().pytest_add_cli_args_test_selection)], plugins=[plugin])
    counts: Counter[str] = Counter()
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        counts.update(status_by_exit_code[code] for code in data.exit_code_by_key.values())
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"{dict(counts)}; {sum(u.ru_utime + u.ru_stime for u in used) / 60:.1f} processor minutes")
    sys.exit(code)


if __name__ == "__main__":
    main()
