"""What the check of submissions finds in the challenge's published records: counts, no text of theirs.

git clone https://github.com/openai/parameter-golf
python benchmarks/submissions.py parameter-golf/records > benchmarks/results/submissions.md
python benchmarks/submissions.py parameter-golf/records --list       # each finding, to go through by hand
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from pathlib import Path

import golfpack
from generator.handing_in.findings import KINDS

MEANINGS = {
    "missing": "train_gpt.py, README.md, submission.json or a log is not there, or empty",
    "misnamed": "train_gpt.py or submission.json is there under another name",
    "syntax": "the script does not compile",
    "newer-syntax": "an f-string in what is packed needs Python 3.12; counted with Python before that",
    "json": "submission.json can't be read, or a value is of the wrong type",
    "field": "submission.json does not tell author, github_id or val_bpb",
    "over-cap": "submission.json or a log tells more than 16,000,000 bytes",
    "over-cap-as-counted": "with train_gpt.py as it lies there, not compressed as the log counts it, more than 16,000,000",
    "total": "a total in submission.json is in no log, or not in the seed's",
    "code": "bytes_code is not the size of train_gpt.py",
    "log-code": "the log's code size is not the size of train_gpt.py",
    "sum": "code and model do not add up to the total",
    "code-beside": "train_gpt.py runs other Python files of the folder",
    "score": "a score in submission.json is in no log, nor a mean over logs",
    "seed-score": "a seed's score is not in its log",
    "mean": "the score is not the mean of the seeds' scores",
    "before-coding": "the score is in the log only before the size of the coded model",
    "seed": "a seed without a log, or a log of another seed than its name tells",
    "requirement": "an import that no text of the folder mentions, and the challenge does not install",
    "artifact": "a damaged artifact of golfpack's",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Check every published record's folder.")
    parser.add_argument("records", type=Path, help="the repository's folder records/")
    parser.add_argument("--list", action="store_true", help="print each finding instead of the table")
    options = parser.parse_args()
    folders = sorted(path for path in options.records.glob("*/*") if path.is_dir())
    findings: Counter[str] = Counter()
    places: defaultdict[str, set[Path]] = defaultdict(set)
    passed = unreadable = 0
    started = time.perf_counter()
    for folder in folders:
        try:
            checked = golfpack.check_submission(folder)
        except golfpack.InputError as error:
            unreadable += 1
            print(f"{folder.name}: {error}")
            continue
        passed += checked.passed
        for one in checked.findings:
            findings[one.kind] += 1
            places[one.kind].add(folder)
            if options.list:
                print(f"{folder.name}: {one.kind}: {one.message}")
    if options.list:
        return
    print("# The check of submissions, on the published records\n")
    print("    python benchmarks/submissions.py parameter-golf/records\n")
    print(
        f"{len(folders)} folders of openai/parameter-golf, {unreadable} of them unreadable; in {passed} nothing is wrong. "
        f"{(time.perf_counter() - started) / len(folders):.2f} s per folder.\n"
    )
    print("| kind | wrong | folders | findings | what |\n| --- | --- | ---: | ---: | --- |")
    for kind in sorted(findings, key=lambda kind: (not KINDS[kind], -len(places[kind]))):
        print(f"| `{kind}` | {'yes' if KINDS[kind] else 'no'} | {len(places[kind])} | {findings[kind]} | {MEANINGS[kind]} |")
    nothing = [f"`{kind}`" for kind in MEANINGS if kind not in findings]
    print(f"\nNothing of {', '.join(nothing)}. The published folders hold no weights: their sizes are what their logs tell.")


if __name__ == "__main__":
    main()
