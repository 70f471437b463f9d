"""Fuzz the entry points of `fuzz_targets` with atheris: `python tests/fuzz/fuzz.py --seconds 600`.

Each entry point gets an equal share of the time, in a process of its own. Inputs that reached new code are kept below
`--output`, so that the next run starts where this one ended. An input that found a fault is kept there, too, and
printed with the command that feeds it again.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]
TIMEOUT_S = 30
MEMORY_MB = 4096
MAX_INPUT_BYTES = 1 << 16
EXIT_FAULT = 1


def fuzz_all(targets: Sequence[str], seconds: float, output: Path) -> list[Path]:
    """Fuzz entry points one after the other; return the inputs that found a fault."""
    found = []
    for target in targets:
        new = _fuzz_for(target, seconds / len(targets), output)
        kept = len(list((output / target / "corpus").iterdir()))
        print(f"{target}: {kept} inputs kept, {len(new)} faults", flush=True)
        for path in new:
            print(f"  again: {sys.executable} {__file__} --only {target} --input {path}", flush=True)
        found += new
    return found


def _fuzz_for(target: str, seconds: float, output: Path) -> list[Path]:
    """Fuzz an entry point for some time; return the inputs that found a fault.

    With some entry points, atheris keeps about 10 kB of each run, until its process has no memory left. The input of
    that moment is no fault if it needs little memory alone, and the search goes on in a new process.
    """
    end_s = time.monotonic() + seconds
    before = set(_faults(output / target))
    command = [sys.executable, __file__, "--only", target, "--output", str(output), "--seconds"]
    while True:
        subprocess.run([*command, str(max(1, round(end_s - time.monotonic())))], check=False)
        new = sorted(set(_faults(output / target)) - before)
        innocent = [path for path in new if path.name.startswith("oom-") and fits_alone(target, path)]
        for path in innocent:
            path.unlink()
        if innocent != new or not innocent or time.monotonic() >= end_s:
            return [path for path in new if path not in innocent]


def fits_alone(target: str, path: Path, memory_mb: int = MEMORY_MB) -> bool:
    """Return whether one input, fed to a new process, is no fault within a limit on its memory."""
    command = [sys.executable, __file__, "--only", target, "--input", str(path)]
    limited = ["prlimit", f"--as={memory_mb << 20}", *command]
    return subprocess.run(limited, capture_output=True, check=False).returncode == 0


def fuzz_one(target: str, seconds: int, output: Path) -> None:
    """Fuzz an entry point in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(include=["ros_kd_perception"]):
        from fuzz_seeds import seeds_of
        from fuzz_targets import TARGETS
    folder = output / target
    corpus, seeds = folder / "corpus", folder / "seeds"
    for path in (corpus, seeds):
        path.mkdir(parents=True, exist_ok=True)
    for seed in seeds_of(target):
        (seeds / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    limits = [f"-max_total_time={seconds}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}"]
    limits += [f"-max_len={MAX_INPUT_BYTES}", f"-artifact_prefix={folder}/", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, str(corpus), str(seeds)], TARGETS[target])
    atheris.Fuzz()


def feed(target: str, path: Path) -> None:
    """Feed one input again, with a traceback if it is a fault."""
    from fuzz_targets import TARGETS

    TARGETS[target](path.read_bytes())
    print(f"{target}: no fault")


def _faults(folder: Path) -> list[Path]:
    kinds = ("crash-*", "timeout-*", "oom-*", "leak-*")
    return sorted(path for kind in kinds for path in folder.glob(kind))


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz. Return 0; 1 if a fault was found."""
    parser = argparse.ArgumentParser(description="Feed messages, bags, model files and contracts that nobody made.")
    parser.add_argument("--seconds", type=float, default=600, help="for all entry points together")
    parser.add_argument("--target", action="append", metavar="NAME", help="fuzz only this entry point; repeatable")
    parser.add_argument("--output", type=Path, default=ROOT / "out/fuzz", help="kept inputs and faults")
    parser.add_argument("--only", metavar="NAME", help="fuzz this entry point in this process")
    parser.add_argument("--input", type=Path, help="feed this file to the entry point of --only, nothing else")
    options = parser.parse_args(arguments)
    if options.only and options.input:
        feed(options.only, options.input)
        return 0
    if options.only:
        fuzz_one(options.only, int(options.seconds), options.output)  # it instruments what is not imported yet
        return 0
    from fuzz_targets import TARGETS

    if unknown := set(options.target or ()) - set(TARGETS):
        parser.error(f"expected a --target among {', '.join(TARGETS)}, got {', '.join(sorted(unknown))}")
    return EXIT_FAULT if fuzz_all(options.target or list(TARGETS), options.seconds, options.output) else 0


if __name__ == "__main__":
    sys.exit(main())
