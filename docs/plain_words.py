"""Refuses phrases that are hard to read, in help, errors, comments, docstrings and pages: `make check`.

The list holds the findings of reviews; a phrase is added when a review finds it again.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("producer", "schemas", "consumer", "migrations", "docs", "deploy", "examples", "benchmarks", "tests")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "Makefile", "pyproject.toml", ".ci/run", ".env")
# Phrase: what to write instead.
REFUSED = {
    r"whoever comes next": "name who: the next member, the next run",
    r"whatever stands": "name the thing",
    r"what is none\b": "say what it is not",
    r"(?<!there )(is|are) no (time|number|list|file|frame|array|JSON|model|record|capture|schema|name)\b": "is not a …",
    r"told apart": "distinguished, or: shown separately",
    r"tells? \w+ apart": "distinguish",
    r"\bas far as\b": "name the limit",
    r"\bbeside\b": "next to, in addition to, while … runs",
    r"\bof a side that\b": "a side that … is not …",
    r"\bone finding a\b": "one finding per",
    r"\bfurther behind than this\b": "when … is this far behind",
    r"\bin good order\b": "without an error",
    r"\bwhoever\b": "name who: the next member, the user, the process that …",
    r"\b(made|makes?) anew\b": "re-create",
    r"\bcomes? of age\b": "mature",
    r"\bthat (is|are) none\b": "that is not a …, invalid",
    r"\bthat (is|are|was) away\b": "unreachable",
    r"\bhand(s|ed)? over\b": "pass, send, produce",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(in the way of|stands? in the way)\b": "name what it prevents",
    r"\b(is|are) said\b": "name who says, logs or reports it",
    r"\bwhat (has )?bec[ao]me of\b": "the result of",
    r"\bwithout a word\b": "silently",
    r"\ball the same\b": "anyway",
    r"\b(says?|knows?) nothing of\b": "says nothing about",
    r"\b(check|gate|/readyz`?) says? no\b": "fails",
    r"\bis due next\b": "the next …",
    r"\bwhat stands\b": "name the thing",
    r"\bto be had\b": "available",
    r"\bgets? on with\b": "make progress",
    r"\bin silence\b": "silently",
    r"\bpassed over\b": "skipped, ignored",
    r"\bput together\b": "composed, combined",
    r"\b(is|are) (handed|told)\b": "gets, receives",
    r"\bspeaks? of\b": "is about, covers, mentions",
    r"\bgoes with\b": "name the relation: belongs to, ends with",
    r"\bas ever\b": "as before",
    r"\bwhat (came|comes) of\b": "the result of",
    r"\b(stands?|stood) (alone|still)\b": "is separate, is independent; stops",
}
SUFFIXES = {".py", ".md", ".sql", ".j2", ".yml", ".yaml", ".json", ".toml", ".sh"}
# A released migration is never edited; the declared tables repeat its comments.
SKIPPED = {"plain_words.py", "0005_rollups.sql", "0009_period_errors.sql", "labels.py"}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that people read, with their numbers: of Python, strings and comments only."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(content.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            yield from enumerate(token.string.splitlines(), token.start[0])


def main() -> int:
    """Print each place with what to write; return the exit status."""
    files = [ROOT / page for page in PAGES]
    files += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    found = 0
    for path in files:
        if path.name in SKIPPED and path.parent.name != "cli":
            continue
        for number, line in texts(path):
            for pattern, better in REFUSED.items():
                if match := re.search(pattern, line, re.IGNORECASE):
                    found += 1
                    sys.stderr.write(f"{path.relative_to(ROOT)}:{number}: {match[0]!r}: {better}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
