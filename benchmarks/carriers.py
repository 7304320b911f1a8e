"""Size, load time and peak memory of the carriers.

    python benchmarks/carriers.py [-o benchmarks/results/carriers.md]

Random payloads of 12 and 15.7 MB. Each figure is from a fresh process that imports numpy, reads the payload through the carrier
and checks its CRC-32; from that of the same process without payload it takes away the start of Python and numpy. The fastest
of several runs counts. The last rows are what a script does that puts everything in one base85 literal.
"""

from __future__ import annotations

import argparse
import base64
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

from generator.carriers import REGISTRY, Cargo
from generator.compressors import compress
from generator.source.loader import gather_function
from generator.source.shrink import minify
from generator.version import __version__

# Not ru_maxrss, which a process inherits from the one that starts it.
REPORT = 'import sys;print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0],file=sys.stderr)'


def program(carrier: str, payload: bytes) -> str:
    """Code that loads the payload and says how much memory the process took."""
    import ast

    name, arguments = REGISTRY[carrier].reader(payload, 0)
    function = gather_function("runtime_stub.carriage", name, "load")
    loader = minify(ast.Module([function], []))
    call = ",".join(["Z", *map(str, arguments)])
    called = f"{loader.split('def ')[1].split('(')[0]}({call})"
    lines = [loader, "import numpy,zlib", f"assert zlib.crc32({called})=={zlib.crc32(payload)}", REPORT]
    return "\n".join(lines)


def measure(path: Path, runs: int = 5) -> tuple[float, float]:
    """Seconds and peak MB of the fastest run."""
    best = (1e9, 0.0)
    for _ in range(runs):
        start = time.perf_counter()
        completed = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
        best = min(best, (time.perf_counter() - start, int(completed.stderr.split()[-1]) / 1024))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "carriers.md")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "train_gpt.py")
        path.write_text(f"import numpy\n{REPORT}\n")
        idle, idle_memory = measure(path)
        for size in (12_000_000, 15_700_000):
            payload = np.random.default_rng(size).bytes(size)
            for carrier in REGISTRY:
                compressed = compress(program(carrier, payload).encode(), "lzma")[1]
                written = REGISTRY[carrier].write(Cargo(compressed, payload, "Z", "Y", "X", ""), path.stem)
                path.write_bytes(written.main)
                for name, data in written.beside.items():
                    (path.parent / name).write_bytes(data)
                seconds, memory = measure(path)
                overhead = (written.size - size) / size
                rows.append(f"| {carrier} | {size:,} | {overhead:.3%} | {seconds - idle:.3f} | {memory:.0f} |")
                print(rows[-1], flush=True)
            literal = f'import base64,zlib,numpy\nZ=base64.b85decode("{base64.b85encode(payload).decode()}")\n'
            path.write_text(f"{literal}assert zlib.crc32(Z)=={zlib.crc32(payload)}\n{REPORT}\n")
            seconds, memory = measure(path)
            rows.append(f"| literal, base64.b85decode | {size:,} | 25.000% | {seconds - idle:.3f} | {memory:.0f} |")
            print(rows[-1], flush=True)
    lines = [
        "# Carriers",
        "",
        f"`python benchmarks/carriers.py`, golfpack {__version__}, Python {platform.python_version()}, numpy {np.__version__},",
        f"Linux. The start of Python with numpy, {idle:.2f} s, is taken away from the load time; the peak memory contains its",
        f"{idle_memory:.0f} MB.",
        "",
        "| carrier | payload | overhead | load time, s | peak memory, MB |",
        "| --- | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
