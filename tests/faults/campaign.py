"""The fault campaign: kill, stop, damage and refuse in many ways, and compare with a study that nothing happened to.

Usage: python -m tests.faults.campaign [--scale full|long] [--seed N] [--workers N] [--folder F] [--only KINDS]

Each try has a folder of its own. It ends well if the study ends equal to the reference, to the last bit, or if an
attempt ends with one sentence that names a way out and the study ends equal once that was followed. Anything else is a
failure: its seed, what was done and its folder are printed, and the exit code is 1.
"""

import argparse
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from tests.faults import forked, injected
from tests.faults.forked import Attempt, Fault, Study, attempt, new_study, tree
from tests.faults.oracle import Facts, difference, facts, statuses
from tests.faulty_proxy import faulty_proxy
from tests.servers import serving
from tests.unit.classifier.fake_hub import fake_hub

# How often each kind is tried.
SCALES = {
    "full": {
        "SIGKILL": 20,
        "twice": 20,
        "directed": 18,
        "signal": 8,
        "damage": 16,
        "report": 6,
        "errno": 8,
        "writers": 1,
        "clock": 2,
        "tracking": 3,
        "hub": 3,
    },
}
SCALES["long"] = {kind: 6 * count for kind, count in SCALES["full"].items()}

EQUAL, SENTENCE = "equal", "one sentence, then equal"


class FaultFoundError(Exception):
    """The project did not do what it promises."""


@dataclass(frozen=True)
class Surroundings:
    """What all tries share.

    Attributes:
        root: The folder of all studies.
        reference: The facts of the study that nothing happened to.
        hub_reference: The same of one whose base model comes from a hub.
        cpu_seconds: The time of the processor that it took.
        calls: How often it called each of `injected.PLACES`.
        report_inputs: The files in its data folder that reporting reads.
    """

    root: Path
    reference: Facts
    hub_reference: Facts
    cpu_seconds: float
    calls: dict[str, int]
    report_inputs: list[str]

    @property
    def shared(self) -> Path:
        return self.root / "shared"


@dataclass(frozen=True)
class Trial:
    """One try.

    Attributes:
        kind: What the table calls it.
        number: Its number; with the campaign's seed it gives every random choice.
        seed: The campaign's seed.
    """

    kind: str
    number: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}".replace(" ", "_")


@dataclass
class Case:
    """A try at work."""

    around: Surroundings
    study: Study
    random: random.Random
    story: list[str]
    label: str
    number: int
    fresh_runs: bool = False  # whether a new cross-validation beside one that was given up is a right answer

    def attempt(self, *faults: Fault, command: list[str] | None = None, **named: float | None) -> Attempt:
        done = attempt(self.study, *_surroundings(self.study), *faults, command=command, **named)  # type: ignore[arg-type]
        self.story.append(f"exit {done.exit_code} after {done.seconds:.1f} s: {done.sentence or ''}")
        return done

    def finish(self) -> str:
        """Repeat the command until it succeeds, and follow each sentence's way out; return how it went."""
        followed, params = 0, {}
        for _ in range(5):
            done = self.attempt(command=self.study.command(**params))
            if done.exit_code == 0:
                break
            params = self.follow(done)
            followed += 1
        else:
            raise FaultFoundError("five attempts have not finished it")
        self.compare()
        return SENTENCE if followed else EQUAL

    def compare(self, *parts: str) -> None:
        reference = self.around.hub_reference if self.study.hub else self.around.reference
        if found := difference(reference, self.study, self.fresh_runs, parts):
            raise FaultFoundError(found)

    def check_stopped(self, done: Attempt) -> None:
        """Check that an attempt that failed did so with one sentence and left no run as running."""
        if done.exit_code == 0:
            return
        if done.sentence is None:
            raise FaultFoundError(f"exit code {done.exit_code} without one sentence: {done.output[-1500:]}")
        # Statuses can't be written to a database that is damaged; the sentence names it, and the way out replaces it.
        if (running := statuses(self.study)["RUNNING"]) and str(self.study.database) not in done.sentence:
            raise FaultFoundError(f"{running} runs are RUNNING after: {done.sentence}")

    def follow(self, done: Attempt) -> dict[str, str]:
        """Do what the sentence of a failed attempt says, and return the parameters that it asks for."""
        self.check_stopped(done)
        sentence = done.sentence or ""
        if "fresh=true" in sentence:
            self.fresh_runs = True
            return {"fresh": "true"}
        paths = [Path(word.rstrip(",;:")) for word in sentence.split() if word.startswith(str(self.study.folder))]
        if paths and re.search(r"remove (it|the|this)|move it away|delete", sentence):
            self.fresh_runs = True
            path = paths[0]
            self.story.append(f"removed {path}")
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
                Path(f"{path}-journal").unlink(missing_ok=True)
        elif not re.search("run (this|the same command|`kedro run)|open a new one with `kedro run", sentence):
            raise FaultFoundError(f"no way out: {sentence}")
        return {}


# --- the kinds -------------------------------------------------------------------------------------------------------


def sigkill(case: Case) -> str:
    case.attempt(kill_at_cpu=case.random.uniform(0, case.around.cpu_seconds))
    return case.finish()


def twice(case: Case) -> str:
    case.attempt(kill_at_cpu=case.random.uniform(0, case.around.cpu_seconds))
    case.attempt(kill_at_cpu=case.random.uniform(0, 0.6 * case.around.cpu_seconds))
    return case.finish()


def directed(case: Case) -> str:
    """Kill before or after a call; the kinds of places take turns."""
    kinds = list(injected.PLACES)
    kind = kinds[case.number % len(kinds)]
    case.label = f"SIGKILL {kind}"
    place = case.random.choice(injected.PLACES[kind])
    n, after = case.random.randint(1, case.around.calls[place]), case.random.random() < 0.5
    case.story.append(f"{'after' if after else 'before'} call {n} of {place}")
    done = case.attempt(injected.at_call(place, n, after=after))
    if done.exit_code != 128 + signal.SIGKILL:
        raise FaultFoundError(f"the process was not killed: {done.output[-500:]}")
    return case.finish()


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def a_signal(case: Case) -> str:
    sent = SIGNALS[case.number % len(SIGNALS)]
    case.label = sent.name
    moment = case.random.uniform(0.15, 0.95) * case.around.cpu_seconds
    done = case.attempt(kill_at_cpu=moment, sent=sent)
    watched = "Running node" in done.output
    if watched and done.exit_code != 0:
        case.check_stopped(done)
        if done.exit_code != 128 + sent:
            raise FaultFoundError(f"exit code {done.exit_code} after {sent.name}")
        if f"stopped by {sent.name}: run the same command again" not in (done.sentence or ""):
            raise FaultFoundError(f"{done.sentence!r} after {sent.name}")
        case.finish()
        return SENTENCE
    return case.finish()


def damage(case: Case) -> str:
    """Damage a file of a study that was killed in its last fold, then go on: with everything, or first that fold."""
    case.study = _copy(case, "half")
    case.fresh_runs = True
    files = [
        path
        for name, path in tree(case.study.folder).items()
        # Of a fold's artifacts no run reads others again.
        if not re.match(r"log.txt|tmp/|data/.locks/|mlruns/(?!\w+/artifacts/(checkpoint|fold|report_inputs)/)", name)
    ]
    group = ("data/06_models", "mlruns", "data/0[2357]", "mlflow")[case.number % 4]
    files = [path for path in files if re.match(group, path.relative_to(case.study.folder).as_posix())]
    path = case.random.choice(files)
    how = case.random.choice(list(injected.DAMAGES))
    case.label = f"{how} file of {group.replace('[2357]', '*')}"
    case.story.append(f"{how}: {path}")
    injected.DAMAGES[how](path, case.random)
    ended = ""
    if case.random.random() < 0.5:
        fold = ("--pipelines", "cv_training", "--namespaces", f"fold_{forked.FOLDS - 1}")
        done = case.attempt(command=case.study.command(*fold, without=("uncertainty",)))
        if done.exit_code:
            case.follow(done)
            ended = SENTENCE
    return case.finish() if not ended else (case.finish() and ended)


def report(case: Case) -> str:
    """Damage a file that reporting reads, and make the report again."""
    case.study = _copy(case, "done")
    case.fresh_runs = True
    files = [case.study.data / name for name in case.around.report_inputs]
    path, how = case.random.choice(files), case.random.choice(list(injected.DAMAGES))
    case.label = f"{how} file that reporting reads"
    case.story.append(f"{how}: {path}")
    injected.DAMAGES[how](path, case.random)
    done = case.attempt(command=case.study.command("--pipelines", "reporting", without=("system",)))
    if done.exit_code == 0:
        case.compare(
            "data/08_reporting", "data/07_model_output/oof", "artifacts of parent/reporting", "metric", "alias"
        )
        return case.finish()
    case.follow(done)
    case.finish()
    return SENTENCE


_REFUSED = (
    "mentallam.files:force_to_disk",
    "pathlib:Path.replace",
    "pathlib:Path.mkdir",
    "shutil:copyfile",
    "shutil:copy2",
)


def errnos(case: Case) -> str:
    """Let the system refuse to force something to the disk, to write or to rename it, once or from then on."""
    name = list(injected.ERRORS)[case.number % 4]
    place = case.random.choice(_REFUSED)
    calls = case.around.calls[place]
    n, times = case.random.randint(1, calls), case.random.choice([1, 10**9])
    case.label = name
    case.story.append(f"{name} from call {n} of {place}, {times} times")
    done = case.attempt(injected.from_call(place, n, injected.raising(injected.ERRORS[name]), times))
    case.check_stopped(done)
    ended = case.finish()
    return SENTENCE if done.exit_code else ended


def writers(case: Case) -> str:
    """Start a second process in the folder of a running one; kill the first, and let the second go on."""
    first = forked.start(case.study)
    began = time.monotonic()
    log = case.study.folder / "log.txt"
    while not (log.exists() and "Running node" in log.read_text(errors="replace")):
        time.sleep(0.02)
    log.rename(case.study.folder / "first.txt")
    second = case.attempt()
    os.kill(first, signal.SIGKILL)
    killed = forked.wait(case.study, first, began)
    if killed.exit_code != 128 + signal.SIGKILL:
        raise FaultFoundError(f"the first had ended before the second was refused: {killed.exit_code}")
    if "another run works in" not in (second.sentence or ""):
        raise FaultFoundError(f"the second was not refused: {second.output[-500:]}")
    case.finish()
    return SENTENCE


def clock(case: Case) -> str:
    """Kill a run, and let the clock be an hour behind in the next, or jump back in its middle."""
    case.attempt(kill_at_cpu=case.random.uniform(0.3, 1) * case.around.cpu_seconds)
    done = case.attempt(injected.clock_jumps(case.random))
    if done.exit_code != 0:
        raise FaultFoundError(f"exit code {done.exit_code}: {done.output[-500:]}")
    return case.finish()


_OF_THE_SERVER: list[int | str] = [429, 503, "reset", "lost", "truncated"]
_OF_THE_HUB: list[int | str | None] = [429, 503, "reset", "cut off", "corrupted", None, None]


def tracking(case: Case) -> str:
    """Let requests to the tracking server fail here and there, or the server be away from some request on."""
    folder = case.study.folder
    database = f"sqlite:///{case.study.database}"
    command = ("mlflow", "server", "--backend-store-uri", database, "--artifacts-destination", str(folder / "mlruns"))
    with serving(*command, log=folder / "tmp_server.txt") as server, faulty_proxy(server) as proxy:
        case.study = replace(case.study, server=proxy.address)
        if is_away := case.number % 3 == 2:
            case.label = "tracking server away, then back"
            proxy.faults = [*[""] * case.random.randint(20, 250), *["reset"] * 10**5]
        else:
            case.label = "faults of the tracking server"
            chances = (case.random.random() < 0.05 for _ in range(10**4))
            proxy.faults = [case.random.choice(_OF_THE_SERVER) if chance else "" for chance in chances]
        done = case.attempt()
        case.story.append(f"{len(proxy.requests)} requests")
        proxy.clear()
        if is_away and done.exit_code == 0:
            raise FaultFoundError("the study ended without its server")
        if done.sentence is None and done.exit_code:
            raise FaultFoundError(f"exit code {done.exit_code} without one sentence: {done.output[-1500:]}")
        ended = case.finish()
    return SENTENCE if done.exit_code else ended


def hub(case: Case) -> str:
    """Let requests to the hub fail here and there; kill the download in every third try."""
    case.label = "faults of the hub"
    with fake_hub(forked.HUB_MODEL, case.around.root / "repository") as server:
        case.study = replace(case.study, hub=server.address)
        server.faults = case.random.choices(_OF_THE_HUB, k=12)
        kill_at = injected.at_call("mentallam.classifier.hub:_compare", 1, after=case.random.random() < 0.5)
        done = case.attempt(*([kill_at] if case.number % 3 == 2 else []))
        case.story.append(f"{len(server.requests)} requests")
        server.faults = []
        case.attempt()  # the audit of a run that finds the tokenizer on the machine has token counts, as the reference
        ended = case.finish()
    return SENTENCE if done.exit_code == 1 else ended


def _surroundings(study: Study) -> list[Fault]:
    return [injected.asking_hub(study.hub, study.folder / "tmp/hub")] if study.hub else []


KINDS: dict[str, tuple[str, Callable[[Case], str]]] = {
    "SIGKILL": ("SIGKILL at a random moment", sigkill),
    "twice": ("SIGKILL twice in a row", twice),
    "directed": ("SIGKILL at a call", directed),
    "signal": ("signal", a_signal),
    "damage": ("damage", damage),
    "report": ("damage before a report", report),
    "errno": ("error of the disk", errnos),
    "writers": ("two writers at once", writers),
    "clock": ("clock set back by an hour", clock),
    "tracking": ("tracking server", tracking),
    "hub": ("hub", hub),
}


# --- preparation -----------------------------------------------------------------------------------------------------


def _prepare(root: Path) -> Surroundings:
    """Make the reference and the studies that are damaged later."""
    shared = root / "shared"
    shared.mkdir(parents=True)
    forked.prepare(shared)
    done = new_study(root / "done", shared)
    _succeed(done)
    warm = Study(root / "warm", shared)
    shutil.copytree(done.folder, warm.folder)
    forked.warm_up(warm)
    counted = new_study(root / "counted", shared)
    places = sorted({*itertools.chain(*injected.PLACES.values()), *_REFUSED})
    _succeed(counted, injected.counting(places, root / "calls.json"))
    calls = json.loads((root / "calls.json").read_text())
    if idle := [place for place in places if not calls.get(place)]:
        raise FaultFoundError(f"nothing calls {', '.join(idle)}")
    half = new_study(root / "half", shared)
    saves = "mentallam.classifier.training:save_state"
    killed = attempt(half, injected.at_call(saves, calls[saves] - 1, after=True))
    assert killed.exit_code == 128 + signal.SIGKILL, killed.output[-2000:]
    timed = new_study(root / "timed", shared)
    cpu_seconds = _succeed(timed).cpu_seconds
    reference = facts(done)
    for other in (counted, timed):
        if found := difference(reference, other):
            raise FaultFoundError(f"two studies without a fault differ: {found}")
    return Surroundings(root, reference, _hub_reference(root, shared), cpu_seconds, calls, forked.report_inputs(done))


def _hub_reference(root: Path, shared: Path) -> Facts:
    """Put the base model into a repository of a hub, and run a study that takes it from there."""
    [base] = (path.parent for path in (shared / "base").glob("*/config.json"))
    shutil.copytree(base, root / "repository")
    with fake_hub(forked.HUB_MODEL, root / "repository") as server:
        study = replace(new_study(root / "from_hub", shared), hub=server.address)
        for _ in range(2):  # the second run counts tokens
            _succeed(study, *_surroundings(study))
    return facts(study)


def _succeed(study: Study, *faults: Fault) -> Attempt:
    done = attempt(study, *faults)
    if done.exit_code != 0:
        raise FaultFoundError(f"exit code {done.exit_code} without a fault: {done.output[-3000:]}")
    return done


def _copy(case: Case, name: str) -> Study:
    """Copy a prepared study to the folder of the try; MLflow's database names folders."""
    source, study = case.around.root / name, replace(case.study, copied_from=case.around.root / name)
    shutil.rmtree(study.folder)
    shutil.copytree(source, study.folder)
    columns = (
        *(("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")),
        *(("model_versions", "source"), ("model_versions", "storage_location")),
    )
    with closing(sqlite3.connect(study.database)) as database, database:
        for table, column in columns:
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (f"{source}/", f"{study.folder}/")
            )
    return study


# --- the campaign ----------------------------------------------------------------------------------------------------

_around: Surroundings


def _try(trial: Trial) -> tuple[str, str, list[str]]:
    """Make one try; return its label, how it ended and its story."""
    choices = random.Random(f"{trial.seed} {trial.kind} {trial.number}")
    label, kind = KINDS[trial.kind]
    story: list[str] = []
    case = Case(_around, new_study(_around.root / trial.name, _around.shared), choices, story, label, trial.number)
    try:
        ended = kind(case)
    except FaultFoundError as error:
        return case.label, f"FAILURE: {error}", story
    except Exception:
        return case.label, f"FAILURE: {traceback.format_exc()}", story
    shutil.rmtree(case.study.folder)
    return case.label, ended, story


def _results(trials: list[Trial], workers: int) -> Iterator[tuple[Trial, tuple[str, str, list[str]]]]:
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        futures = {pool.submit(_try, trial): trial for trial in trials}
        for future in as_completed(futures):
            yield futures[future], future.result()


def run(scale: str, seed: int, root: Path, workers: int, only: str = "") -> tuple[Counter[tuple[str, str]], int]:
    """Run the campaign; return the counts by kind and how it ended, and the number of failures."""
    global _around
    forked.preload()
    began = time.monotonic()
    _around = _prepare(root)
    print(
        f"seed {seed}, folder {root}; prepared in {time.monotonic() - began:.0f} s, a study takes "
        f"{_around.cpu_seconds:.1f} s of a processor",
        flush=True,
    )
    chosen = {kind: count for kind, count in SCALES[scale].items() if not only or kind in only.split(",")}
    trials = [Trial(kind, n, seed) for kind, count in chosen.items() for n in range(count)]
    random.Random(seed).shuffle(trials)
    counts: Counter[tuple[str, str]] = Counter()
    failures = 0
    for done, (trial, (label, ended, story)) in enumerate(_results(trials, workers), 1):
        if done % 10 == 0:
            print(f"{done} of {len(trials)} tries after {time.monotonic() - began:.0f} s", flush=True)
        counts[label, ended if ended in (EQUAL, SENTENCE) else "failure"] += 1
        if ended not in (EQUAL, SENTENCE):
            failures += 1
            head = f"\n{trial.name} ({label}, seed {seed}) in {root / trial.name}"
            print("\n  ".join([head, *story, ended]), flush=True)
    print(f"\n{len(trials)} tries with seed {seed} in {time.monotonic() - began:.0f} s\n")
    print(_table(counts), flush=True)
    return counts, failures


def _table(counts: Counter[tuple[str, str]]) -> str:
    columns = ("tries", EQUAL, SENTENCE, "failure")
    lines = [f"| kind | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for label in [*sorted({label for label, _ in counts}), "all"]:
        numbers = [
            sum(n for (of, ended), n in counts.items() if label in (of, "all") and ended == column)
            for column in columns[1:]
        ]
        lines.append(f"| {label} | {sum(numbers)} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


def main() -> None:
    """Run the campaign as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="kinds, separated by commas")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    root = given.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    _, failures = run(given.scale, given.seed, root, given.workers, given.only)
    if not failures and given.folder is None:
        shutil.rmtree(root)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
