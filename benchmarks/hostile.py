"""Damaged artifacts and forged payloads: what reading and running them does, with counts.

    python benchmarks/hostile.py [--mutants 5000] [--forged 1000] [--seed 0] [--jobs 1] [-o benchmarks/results/hostile.md]

For every carrier and codec a small artifact is built. Each mutant of it is read by `verify`, `unpack` and `inspect` (the file
is taken apart once for the three), and run as a user would run it (by runpy, as __main__), in a forked process with 10 seconds
and an own measure of peak memory. Allowed are one sentence (InputError from golfpack, SystemExit from the artifact), a refusal
by Python itself (a SyntaxError, a zip archive that is none) and, when it is run, the very weights that were packed. Forged
payloads, whose checksum was made to match, are only read: the artifact trusts its checksum. Other weights are then the forger's
right; anything but weights or a sentence is not.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import io
import json
import multiprocessing
import os
import platform
import random
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mutations import Mutant, forge, mutate

import generator
from generator import codecs, filters
from generator.audit import artifact, inspection, unpacking, verification
from generator.audit.artifact import Artifact
from generator.carriers import REGISTRY, Cargo, Written
from generator.carriers.header import header_text
from generator.errors import CheckError, InputError
from generator.version import __version__

SECONDS = 10  # more is a hang
PEAK = 500 << 20  # bytes beyond what the process had
ADDRESS_SPACE = 4 << 30  # bytes; what asks for more fails, and counts as a peak
BATCH = 200  # mutants of one process
SCRIPT = """
import hashlib
from runtime_stub import load_state_dict
print("digest", *(hashlib.sha256(v.numpy().tobytes()).hexdigest() + k for k, v in sorted(load_state_dict().items())))
"""
FAILURES = {
    "wrong weights": "run: other weights than were packed",
    "traceback when run": "run: an exception from bootstrap or loader, where only coded bytes were changed",
    "called intact": "verify passes a changed file",
    "read although changed": "unpack or inspect read a changed file",
    "traceback when read": "verify, unpack or inspect raise anything but InputError or CheckError",
    "hang": f"more than {SECONDS} s of processor time, or {6 * SECONDS} s by the clock",
    "peak": f"more than {PEAK >> 20} MB, or more than {ADDRESS_SPACE >> 30} GB asked for",
    "crash": "the process ends by a signal",
}


def build(carrier: str, codec: str, folder: Path) -> tuple[Written, Cargo]:
    """A small artifact with every dequantizer, all of it coded by one codec."""
    make = torch.Generator().manual_seed(0)
    rows = torch.randn(24, 1, generator=make)
    weights = {
        "embed": torch.randn(40, 24, generator=make) * rows.abs().repeat(2, 1)[:40],
        "blocks.0.w": torch.randn(24, 32, generator=make),
        "blocks.1.w": torch.randn(24, 32, generator=make) * 0.1,
        "norm": torch.ones(32),
        "steps": torch.tensor(12345),
        "mask": torch.tril(torch.ones(6, 6)).bool(),
    }
    quantizer: Any = "ternary" if codec in {"base3", "bitmask"} else "int6"
    rules = [
        {"pattern": "embed", "quantizer": {"id": "rtn", "bits": 5, "per": "group", "group": 12}},
        {"pattern": "blocks.*", "quantizer": quantizer},
        {"pattern": "*", "quantizer": "fp16"},
    ]
    (folder / "script.py").write_text(SCRIPT)
    path = folder / f"{carrier}-{codec}.py"
    recipe = {"codec": _coding(codec), "rule": rules}
    generator.build(folder / "script.py", weights, path, recipe=recipe, carrier=carrier)
    main = path.read_bytes()
    beside = {file.name: file.read_bytes() for file in folder.glob(f"{carrier}-{codec}.*.bin")}
    found = REGISTRY[carrier].read(main, beside.__getitem__)
    assert found is not None
    return Written(main, beside), found.cargo


def _coding(name: str) -> str | dict[str, Any]:
    """A codec; or rANS after a filter, where it is one's name."""
    options = {"replace": "1", "by": "0"} if name == "delta" else {}
    return {"id": "rans", "filters": [{"id": name, **options}]} if name in filters.REGISTRY else name


def place(mutant: Mutant, folder: Path, name: str) -> Path:
    """The mutant's files in a folder."""
    (folder / name).write_bytes(mutant.main)
    for other, data in mutant.beside.items():
        if data is not None:
            (folder / other).write_bytes(data)
    return folder / name


def run_file(path: Path, digest: str) -> str:
    """What running the file comes to."""
    output, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as error:
        sentence = "" if error.code is None or isinstance(error.code, int) else str(error.code)
        return "one sentence" if sentence and "\n" not in sentence else "ends without a word"
    except BaseException as error:  # whatever it is, it is counted
        traceback, own = error.__traceback__, False
        while traceback is not None:
            file = traceback.tb_frame.f_code.co_filename
            own |= file.startswith((str(path), "<string>", "<golfpack>"))
            traceback = traceback.tb_next
        return f"traceback {type(error).__name__}: {str(error)[:80]}" if own else "refused by Python"
    digests = [line for line in output.getvalue().splitlines() if line.startswith("digest ")]
    if not digests:
        return "does nothing"
    return "the same weights" if all(line == digest for line in digests) else "wrong weights"


@functools.lru_cache(maxsize=1)
def taken_apart(path: Path) -> Artifact | InputError:
    """What all three commands begin with."""
    try:
        return artifact.read_artifact(path)
    except InputError as error:
        return error


def open_once(path: Path) -> Artifact:
    """Stands for `read_artifact` in the commands."""
    found = taken_apart(path)
    if isinstance(found, InputError):
        raise found
    return found


def read_file(path: Path, changed: bool) -> list[str]:
    """What reading the file comes to: one outcome for each command."""
    outcomes = []
    for command in (generator.verify, generator.unpack, generator.inspect):
        try:
            found = command(path)
        except (InputError, CheckError) as error:
            text = str(error)
            lines = "traceback when read: several lines" if "\n" in text else "refused"
            outcomes.append("peak" if "not enough memory" in text else lines)
            continue
        except Exception as error:
            outcomes.append(f"traceback when read {type(error).__name__}: {str(error)[:80]}")
            continue
        if command is generator.verify:
            outcomes.append("called intact" if changed and found.passed else "read")
        else:
            outcomes.append("read although changed" if changed else "read")
    return outcomes


def peak_reset() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> int:
    """Bytes of this process: VmRSS or VmHWM."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) << 10


def trial(mutant: Mutant, name: str, digest: str | None, folder: Path, tell: Callable[[Any], None]) -> None:
    """Everything about one mutant, in this process; what is known before it is run is told first."""
    path = place(mutant, folder, name)
    peak_reset()
    before = memory("VmRSS")
    outcomes = read_file(path, changed=digest is not None)
    tell({"kind": mutant.kind, "outcomes": outcomes, "ran": False})
    if digest is not None:
        outcome = run_file(path, digest)
        if outcome.startswith("traceback"):
            outcome = outcome.replace("traceback", "traceback when run") if mutant.only_data else "changed code fails"
        outcomes.append(outcome)
    if memory("VmHWM") - before > PEAK:
        outcomes.append("peak")
    tell({"kind": mutant.kind, "outcomes": outcomes, "ran": True})


def batch(mutants: list[Mutant], name: str, digest: str | None) -> Iterator[dict[str, Any]]:
    """Trials in forked processes: a new one where one ended."""
    done = 0
    while done < len(mutants):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _child(mutants[done : done + BATCH], name, digest, writer)
        os.close(writer)
        with os.fdopen(reader) as lines:
            told = [json.loads(line) for line in lines]
        status = os.waitpid(child, 0)[1]
        results = [result for result in told if result["ran"]]
        yield from results
        done += len(results)
        if os.WIFSIGNALED(status):
            hangs = os.WTERMSIG(status) in {signal.SIGALRM, signal.SIGPROF}
            known = told[-1]["outcomes"] if told and not told[-1]["ran"] else []
            # A changed bootstrap may do anything, once it is run.
            outcome = "changed code fails" if hangs and known and not mutants[done].only_data else "hang" if hangs else "crash"
            yield {"kind": mutants[done].kind, "outcomes": [*known, outcome]}
            done += 1
        elif not results:
            raise RuntimeError(f"a process ended with status {status}")


def _child(mutants: list[Mutant], name: str, digest: str | None, writer: int) -> None:
    """Never returns."""
    status = 1
    try:
        for alarm in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(alarm, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + ADDRESS_SPACE,) * 2)
        warnings.simplefilter("ignore")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with os.fdopen(writer, "w") as results, tempfile.TemporaryDirectory(prefix="golfpack-hostile-") as root:

            def tell(result: Any) -> None:
                results.write(json.dumps(result) + "\n")
                results.flush()

            for number, mutant in enumerate(mutants):
                folder = Path(root, str(number))
                folder.mkdir()
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                signal.alarm(6 * SECONDS)
                trial(mutant, name, digest, folder, tell)
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.alarm(0)
                shutil.rmtree(folder)
        status = 0
    finally:
        os._exit(status)


def sweep(carrier: str, codec: str, mutants: int, forged: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Counts of outcomes for one carrier and codec, and what failed."""
    with tempfile.TemporaryDirectory(prefix="golfpack-hostile-") as root:
        written, cargo = build(carrier, codec, Path(root))
        path = Path(root, f"{carrier}-{codec}.py")
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            runpy.run_path(str(path), run_name="__main__")
        digest = output.getvalue().strip()
    random_ = random.Random(f"{seed} {carrier} {codec}")
    counts: Counter[str] = Counter()
    examples: list[str] = []
    damaged = [mutate(written, carrier, random_) for _ in range(mutants)]
    forgeries = [_forgery(cargo, carrier, path.stem, random_) for _ in range(forged)]
    for sort, tried, name, expected in (("mutants", damaged, path.name, digest), ("forged", forgeries, "forged.py", None)):
        for result in batch(tried, name, expected):
            counts[sort] += 1
            for outcome in set(result["outcomes"]):
                failure = next((known for known in FAILURES if outcome.startswith(known)), "")
                counts[failure or outcome] += 1
                if failure:
                    examples.append(f"{carrier} {codec}: {result['kind']}: {outcome}")
    return counts, examples


def _forgery(cargo: Cargo, carrier: str, stem: str, random_: random.Random) -> Mutant:
    """A forged payload, alone or, one time in five, in an artifact that fits it."""
    assert cargo.payload is not None
    payload, kind = forge(cargo.payload, random_)
    if random_.random() < 0.8:
        return Mutant(payload, {}, kind, True)
    header = header_text(payload, len(cargo.program)) if cargo.header else ""
    written = REGISTRY[carrier].write(dataclasses.replace(cargo, payload=payload, header=header), stem)
    return Mutant(written.main, dict(written.beside), kind, True)


ALLOWED = ("the same weights", "one sentence", "refused by Python", "changed code fails", "does nothing", "ends without a word")


def report(rows: dict[tuple[str, str], Counter[str]], arguments: argparse.Namespace, seconds: float) -> str:
    """The results as Markdown."""
    total = sum(rows.values(), Counter())
    lines = [
        "# Damaged artifacts and forged payloads",
        "",
        f"    python benchmarks/hostile.py --mutants {arguments.mutants} --forged {arguments.forged} --seed {arguments.seed} "
        f"--jobs {arguments.jobs}",
        "",
        f"golfpack {__version__}, Python {platform.python_version()}, torch {torch.__version__}, {seconds / 60:.0f} minutes in "
        f"{arguments.jobs} process(es). {total['mutants']:,} mutants and {total['forged']:,} forged payloads of {len(rows)} "
        "artifacts, one for each carrier and codec. What each count means: `benchmarks/hostile.py`.",
        "",
        "| failure | what it is | count |",
        "| --- | --- | --- |",
        *(f"| {name} | {meaning} | {total[name]:,} |" for name, meaning in FAILURES.items()),
        "",
        "What running the mutants came to (`changed code fails`: the bootstrap's own text was changed, and Python says so):",
        "",
        "| carrier | codec | mutants | forged | failures | " + " | ".join(ALLOWED) + " |",
        "| --- " * (5 + len(ALLOWED)) + "|",
    ]
    for (carrier, codec), counts in rows.items():
        failures = sum(counts[name] for name in FAILURES)
        numbers = [counts["mutants"], counts["forged"], failures, *(counts[name] for name in ALLOWED)]
        lines.append(f"| {carrier} | {codec} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutants", type=int, default=5000, help="of each carrier and codec")
    parser.add_argument("--forged", type=int, default=1000, help="payloads for each carrier and codec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--carriers", nargs="*", default=list(REGISTRY))
    parser.add_argument("--codecs", nargs="*", default=[*sorted(codecs.REGISTRY), *sorted(filters.REGISTRY)])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for module in (inspection, unpacking, verification):
        module.read_artifact = open_once  # type: ignore[attr-defined]
    start = time.perf_counter()
    rows: dict[tuple[str, str], Counter[str]] = {}
    examples: list[str] = []
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("fork")) as pool:
        running = {
            (carrier, codec): pool.submit(sweep, carrier, codec, arguments.mutants, arguments.forged, arguments.seed)
            for carrier in arguments.carriers
            for codec in arguments.codecs
        }
        for key, future in running.items():
            rows[key], failed = future.result()
            examples += failed
            print(f"{time.perf_counter() - start:5.0f} s", *key, dict(rows[key]), file=sys.stderr, flush=True)
    for example in sorted(set(examples)):
        print(example, file=sys.stderr)
    text = report(rows, arguments, time.perf_counter() - start)
    if arguments.output:
        arguments.output.write_text(text)
    print(text)
    sys.exit(1 if examples else 0)


if __name__ == "__main__":
    main()
