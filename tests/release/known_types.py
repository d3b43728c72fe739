"""`make types`: how many of the public names have types that a user's type checker knows, by pyright.

Public is every name that does not begin with an underscore, in every module. At least 98 % must be known.
"""

import json
import subprocess
import sys


LEAST = 0.98
COMMAND = ("pyright", "--verifytypes", "hf_paint", "--ignoreexternal", "--outputjson")


def main() -> int:
    """Print the share, and each name whose type is not known; the exit code is 1 if they are too many."""
    done = subprocess.run([sys.executable, "-m", *COMMAND], capture_output=True, text=True)
    report = json.loads(done.stdout).get("typeCompleteness")
    if report is None:
        sys.exit(f"pyright read no types of hf_paint: {done.stdout}{done.stderr}")
    for symbol in report["symbols"]:
        if symbol["isExported"] and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]):
            reasons = " ".join(item["message"].splitlines()[0] for item in symbol["diagnostics"])
            print(f"{symbol['name']}: {reasons}")
    counts, share = report["exportedSymbolCounts"], report["completenessScore"]
    print(f"{counts['withKnownType']} of {sum(counts.values())} public names have known types: {share:.2%}")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
