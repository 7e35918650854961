"""Read policies: one Markdown file each; its name is the category, its title and first paragraph say what it is about.

    # Weapons and violence

    Requests that would help to hurt people, or to make or get what hurts them.

    ...

`general.md` is the policy of rows without a category, and none itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safekey.errors import UserError

GENERAL = "general"
PACKAGED = Path(__file__).parent / "policies"


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy.

    Attributes:
        name: the file's name without `.md`: the category.
        title: the first heading.
        summary: the first paragraph, on one line.
        text: the whole file.
    """

    name: str
    title: str
    summary: str
    text: str


class Policies(dict[str, Policy]):
    """Category → policy, in the order of the names, without the general one.

    Attributes:
        general: the policy for rows without a category; without a file of its own, all summaries together.
        sha256: of all files.
    """

    def __init__(self, found: Mapping[str, Policy]) -> None:
        super().__init__({name: found[name] for name in sorted(found) if name != GENERAL})
        self.general = found.get(GENERAL) or Policy(GENERAL, "All policies", "", self.listed())
        whole = "\0".join(policy.text for policy in (*self.values(), self.general))
        self.sha256 = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()

    def of(self, category: str) -> Policy:
        """Return the policy of a category; the general one for "" and for names that have none."""
        return self.get(category, self.general)

    def named(self, word: str) -> str:
        """Return the category that a row's own word names (by name or title, in any case); "" for none."""
        wanted = _plain(word)
        return next((name for name, one in self.items() if wanted in (_plain(name), _plain(one.title))), "")

    def listed(self) -> str:
        """Return one line for each category, for a prompt."""
        return "\n".join(f"- {policy.name}: {policy.title}. {policy.summary}" for policy in self.values())


def load_policies(folder: str | None) -> Policies:
    """Read every Markdown file of a folder; None: the packaged policies.

    Raises:
        UserError: there is no such folder, no policy in it, or one without a title or a first paragraph.
    """
    home = PACKAGED if folder is None else Path(folder).expanduser()
    if not home.is_dir():
        raise UserError(f"policies {folder}: no such folder; expected one with a Markdown file for each policy")
    found = {path.stem: _read(path) for path in sorted(home.glob("*.md"))}
    if not found.keys() - {GENERAL}:
        raise UserError(f"policies {folder}: holds no policy; expected Markdown files such as privacy.md")
    return Policies(found)


def _read(path: Path) -> Policy:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the policy cannot be read ({type(error).__name__}); save it as UTF-8") from None
    title = re.search(r"^#\s+(\S.*)$", text, re.MULTILINE)
    if title is None:
        raise UserError(f"{path}: the policy has no title: begin it with a line such as '# Privacy'")
    paragraph = next((part.strip() for part in re.split(r"\n\s*\n", text[title.end() :]) if part.strip()), "")
    if not paragraph or paragraph.startswith("#"):
        raise UserError(
            f"{path}: the policy has no first paragraph that says what it is about; add one below the title"
        )
    return Policy(path.stem, title[1].strip(), " ".join(paragraph.split()), text)


def _plain(word: str) -> str:
    return " ".join(re.findall(r"\w+", word.casefold().replace("_", " ")))
