"""Fuzzing: mutated, generated and coverage-guided documents for every parser; a value or one line, within bounds.

    python tests/torture/fuzz.py PARSER FILE    repeats one input

Half of the time goes to mutations of valid documents and to hypothesis, half to atheris, in a process of its own.
"""

import json
import logging
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from tally import Budget, Tally


HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
HANG = 60
"""Time in seconds after which an input hangs."""
SECONDS = 5
"""CPU time that an input may take."""
MEMORY = 4 * 2**30
"""Address space that a process may gain while it parses."""
TOKENS = [
    *(b"NaN", b"-1", b"1e999", b"null", b"true", b"[]", b"{}", b'""', b"0", b"9" * 40, b"9" * 5000, b"-0.0", b"1.5"),
    *(b'"\\u0000"', b'"\\ud800"', "\u00e9\u4e2d".encode(), b"\xff\xfe", b"\x80", b"\0", b"[" * 300, b'{"a":' * 300),
    *(b"&a [*a]", b"*a", b"<<: ", b"!!int x", b"!!python/name:os.system", b"!!binary aa", b"!!set {a}", b"!!bool q"),
    *(
        b"2020-99-99",
        b"1:1:1",
        b"? ",
        b"- ",
        b": ",
        b"#",
        b"|",
        b">",
        b"---\n",
        b"...",
        b"%YAML 9",
        b"\t",
        b"\r",
        b"{{",
    ),
    *(
        b"../..",
        b"/etc/passwd",
        b"a" * 300,
        b"~nobody/x",
        b"@",
        b"@main",
        b"http://x",
        b"{}",
        b"{0}",
        b"%s",
        b"0x",
        b"=,",
    ),
]
ODD = [
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    float("nan"),
    10**25,
    "",
    "x",
    "\u00e9",
    "../x",
    [],
    {},
    [[]],
    {"a": None},
    [1, "2"],
]


def torture(budget: Budget) -> Iterator[Tally]:
    """Fuzz all parsers, in two processes at once."""
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"HF_HUB_OFFLINE": "1"}
        seconds = max(1.0, budget.left - 15)
        command = [sys.executable, __file__, "--seconds", str(seconds), "--seed", str(budget.seed)]
        started = {
            name: subprocess.Popen(
                [*command, "--how", name, "--out", f"{folder}/{name}.json"], env=env, stderr=subprocess.DEVNULL
            )
            for name in ("mutated", "guided")
        }
        for name, process in started.items():
            code = process.wait()
            tally, found = Tally(f"fuzz, {name}"), Path(folder, f"{name}.json")
            with tally.attempt(f"the process itself, seed {budget.seed}"):
                counts = json.loads(found.read_text())
                tally.tried, tally.lost = counts["tried"], counts["lost"]
                tally.notes = {"parsers": str(counts["parsers"]), "refused": str(counts["refused"])}
                if code not in (0, 77):
                    raise RuntimeError(f"it ended with exit code {code}")
            yield tally


class Fuzzer:
    """Feeds inputs to parsers, and keeps what is lost: anything but a value, `InputError` or `JobError`."""

    def __init__(self, folder: Path) -> None:
        import parsers

        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        self.parsers = parsers.parsers(folder)
        self.names = list(self.parsers)
        self.tried = self.refused = 0
        self.hang = 0
        self.lost: dict[str, str] = {}

    def feed(self, name: str, content: bytes) -> str | None:
        """Feed one input to a parser; return what was lost, or None."""
        from hf_paint.errors import InputError, JobError

        self.tried += 1
        started = time.process_time()
        signal.alarm(self.hang)
        try:
            self.parsers[name].parse(content)
        except (InputError, JobError) as error:
            self.refused += 1
            problem = "a message of several lines" if "\n" in str(error).strip() else None
        except (Exception, SystemExit) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__} in {Path(place.filename).name} {place.name}: {str(error)[:80]}"
        else:
            problem = None
        if time.process_time() - started > SECONDS:
            problem = f"more than {SECONDS} s"
        if problem is not None:
            kind = f"{name}: {re.sub('[0-9]+', '0', problem)[:70]}"
            if kind not in self.lost:
                self.lost[kind] = f"{name}: {problem}; input {content[:300]!r}"
                keep = os.environ.get("FUZZ_KEEP")
                if keep:
                    Path(keep, f"{name.replace(' ', '_')}-{len(self.lost)}").write_bytes(content)
        return problem

    def counts(self) -> dict[str, object]:
        """Return what was counted, as JSON values."""
        return {
            **{"tried": self.tried, "refused": self.refused, "parsers": len(self.parsers)},
            "lost": list(self.lost.values()),
        }


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Return a document with one to four changes: of bytes, of chunks, of tokens, or of values if it is JSON."""
    if rng.random() < 0.5 and (changed := _mutate_json(content, rng)) is not None:
        return changed
    for _ in range(rng.randint(1, 4)):
        i = rng.randrange(len(content) + 1)
        j = min(len(content), i + rng.choice((0, 1, 1, 2, 5, 20, 100)))
        piece = rng.choice(
            (b"", bytes([rng.randrange(256)]), rng.choice(TOKENS), content[i:j] * 2, content[j : j + 30])
        )
        content = content[:i] + piece + content[j:]
    return content[:100_000]


def _mutate_json(content: bytes, rng: random.Random) -> bytes | None:
    lines = content.split(b"\n")
    number = rng.randrange(len(lines))
    try:
        value = json.loads(
            lines[number] if lines[number].startswith(b"{") and lines[number].endswith(b"}") else content
        )
    except ValueError:
        return None
    places: list[tuple[object, object]] = []
    stack = [value]
    while stack:
        part = stack.pop()
        items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, child in items:
            places.append((part, key))
            stack.append(child)
    if not places:
        return None
    for _ in range(rng.randint(1, 2)):
        part, key = rng.choice(places)
        odd = rng.choice((*ODD, None if not places else rng.choice(places)[1]))
        try:
            if rng.random() < 0.2:
                del part[key]
            else:
                part[key] = odd
        except (IndexError, KeyError):
            continue
    text = json.dumps(value).encode()
    if lines[number].startswith(b"{") and lines[number].endswith(b"}") and len(lines) > 1:
        return b"\n".join([*lines[:number], text, *lines[number + 1 :]])
    return text


def mutated(fuzzer: Fuzzer, seconds: float, seed: int) -> None:
    """Feed mutations of the valid documents of each parser for equal times, then what hypothesis generates."""
    for name, parser in fuzzer.parsers.items():
        rng, ends = random.Random(f"{seed} {name}"), time.monotonic() + 0.85 * seconds / len(fuzzer.parsers)
        for document in parser.seeds:
            fuzzer.feed(name, document)
        while time.monotonic() < ends:
            fuzzer.feed(name, mutate(rng.choice(parser.seeds), rng))
    generated(fuzzer, 0.15 * seconds, seed)


def generated(fuzzer: Fuzzer, seconds: float, seed: int) -> None:
    """Feed any JSON values and any text, which hypothesis draws."""
    import hypothesis
    from hypothesis import strategies as st

    ends = time.monotonic() + seconds
    scalars = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(ODD[:12])
    )
    values = st.recursive(
        scalars, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=8), x, max_size=4)
    )
    texts = st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    documents = values.map(lambda value: json.dumps(value).encode()) | texts | st.binary(max_size=40)
    rounds = 0

    while time.monotonic() < ends:

        @hypothesis.seed(f"{seed} {rounds}")
        @hypothesis.settings(
            max_examples=200, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
        )
        @hypothesis.given(st.sampled_from(fuzzer.names), documents)
        def feed(name: str, content: bytes) -> None:
            if time.monotonic() < ends:
                fuzzer.feed(name, content)

        feed()
        rounds += 1


def guided(fuzzer: Fuzzer, seconds: float, seed: int, finish: Callable[[], None]) -> None:
    """Let atheris search for inputs that reach new code of the library; this ends the process."""
    import atheris

    with tempfile.TemporaryDirectory() as corpus:
        for number, (_, parser) in enumerate(fuzzer.parsers.items()):
            for i, document in enumerate(parser.seeds):
                Path(corpus, f"{number}-{i}").write_bytes(bytes([number]) + document)
        ends = time.monotonic() + seconds

        def feed(content: bytes) -> None:
            if content:
                fuzzer.feed(fuzzer.names[content[0] % len(fuzzer.names)], content[1:])
            if time.monotonic() > ends:
                finish()
                os._exit(0)

        options = [
            f"-seed={seed + 1}",
            f"-max_total_time={int(seconds) + 5}",
            "-max_len=20000",
            "-timeout=60",
            "-rss_limit_mb=0",
            f"-artifact_prefix={corpus}/",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], feed)
        atheris.Fuzz()


def _instrumented() -> None:
    """Import the library so that atheris sees which of its lines run."""
    import atheris

    with atheris.instrument_imports(include=["hf_paint"], enable_loader_override=False):
        import parsers  # noqa: F401


def _hang(signum: int, frame: object) -> None:
    raise TimeoutError("it hangs")


def main() -> None:
    """Run one of the two processes, or repeat one input."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("repeat", nargs="*")
    parser.add_argument("--how")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parent)]
    if parsed.how == "guided":
        _instrumented()
    folder = Path(tempfile.mkdtemp())
    fuzzer = Fuzzer(folder)
    if parsed.repeat:
        name, path = parsed.repeat
        fuzzer.parsers[name].parse(Path(path).read_bytes())
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))

    def finish() -> None:
        parsed.out.write_text(json.dumps(fuzzer.counts()))

    if parsed.how == "guided":
        guided(fuzzer, parsed.seconds, parsed.seed, finish)
    else:
        signal.signal(signal.SIGALRM, _hang)  # libFuzzer has its own alarm
        fuzzer.hang = HANG
        mutated(fuzzer, parsed.seconds, parsed.seed)
        finish()


if __name__ == "__main__":
    main()
