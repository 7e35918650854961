"""Upload files to a repository of the hub in one commit, never over what others put there

    uploaded = upload("anna/r1-7b-safekey", files, token=os.environ["HF_TOKEN"])
    uploaded.url, uploaded.private  -> "https://huggingface.co/anna/r1-7b-safekey", True

A file `safekey_files.json` in the repository lists what safekey put there, with hashes. So a later push knows which
files are ours and as we left them, replaces these, and deletes those that the new model no longer has. No message shows
the token.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from safekey.errors import UserError
from safekey.sharing.facts import HUB_ID
from safekey.sharing.files import Shared, from_bytes
from safekey.terminal import printable, without_login

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LIST = "safekey_files.json"
TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name
_HUBS_OWN = {".gitattributes"}
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What was done.

    Attributes:
        url: the repository's page.
        private: whether only its owner can see it.
        created: whether it was made now.
        replaced: files that were there before.
        deleted: files that an earlier push put there, and the model no longer has.
    """

    url: str
    private: bool
    created: bool
    replaced: tuple[str, ...]
    deleted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _There:
    """A repository as it is: its commit, whether it is private, and name → hashes of each file."""

    commit: str
    private: bool
    files: Mapping[str, frozenset[str]]


def check_name(repo: str) -> str:
    """Return a repository's name.

    Raises:
        UserError: it is no OWNER/NAME. What looks like a token is not repeated.
    """
    if repo.startswith("hf_") and "/" not in repo:
        raise UserError(f"this looks like a token, not like a repository: a token is read from {TOKEN} only")
    if not HUB_ID.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith((".git", ".", "-")):
        raise UserError(f"{repo}: expected a repository's name, OWNER/NAME, such as anna/r1-7b-safekey")
    return repo


def token_from_environment() -> str:
    """Return the token.

    Raises:
        UserError: there is none.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UserError(
            f"no token: set {TOKEN} in the environment to a token with write access "
            "(https://huggingface.co/settings/tokens); it is never an argument"
        )
    return token


def listed(files: Sequence[Shared]) -> Shared:
    """Return the file that lists the others."""
    known = {file.name: {"sha256": file.sha256, "git": file.oid, "bytes": file.size} for file in files}
    content = {"format": 1, "written_by": f"safekey {metadata.version('safekey')}", "files": known}
    return from_bytes(LIST, (json.dumps(content, indent=2) + "\n").encode())


def upload(
    repo: str, files: Sequence[Shared], *, token: str, public: bool = False, overwrite: bool = False
) -> Uploaded:
    """Upload files in one commit; a repository that is not there is made, private unless `public`.

    Args:
        repo: OWNER/NAME.
        files: all files, `listed` among them.
        token: with write access.
        public: everybody may see the repository; one that is there keeps its visibility.
        overwrite: replace files of the same names that safekey did not put there, or that were changed since.

    Raises:
        UserError: the hub cannot be reached or refuses, or the repository holds what is not ours.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    api = HfApi(endpoint=endpoint, token=token, library_name="safekey", library_version=metadata.version("safekey"))
    with _one_line(repo, token):
        there = _look(api, repo)
        earlier = _earlier(api, repo, there, token) if there else {}
    if there is not None:
        _check_visibility(repo, there, public)
        foreign = sorted(name for name in there.files if not _is_ours(name, there, earlier))
        if foreign and not overwrite:
            _refuse(repo, foreign)
    names = {file.name for file in files}
    before = there.files if there else {}
    deleted = sorted(
        name for name in before if name in earlier and name not in names and there and _is_ours(name, there, earlier)
    )
    operations: list[Any] = [
        CommitOperationAdd(file.name, file.source if isinstance(file.source, bytes) else str(file.source))
        for file in files
    ]
    operations += [CommitOperationDelete(name) for name in deleted]
    with _one_line(repo, token):
        if there is None:
            api.create_repo(repo, private=not public, repo_type="model", exist_ok=False)
        api.create_commit(
            repo,
            operations,
            commit_message=f"Upload by safekey {metadata.version('safekey')}",
            parent_commit=there.commit if there else None,
        )
    return Uploaded(
        url=without_login(f"{api.endpoint}/{repo}"),
        private=there.private if there else not public,
        created=there is None,
        replaced=tuple(sorted(names & before.keys())),
        deleted=tuple(deleted),
    )


def _look(api: HfApi, repo: str) -> _There | None:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(repo, files_metadata=True)
    except RepositoryNotFoundError as error:
        if error.response is not None and error.response.status_code == 401:
            raise  # a token that the hub does not know
        return None
    files = {}
    for entry in info.siblings or ():
        large = getattr(entry.lfs, "sha256", None) if entry.lfs is not None else None
        files[entry.rfilename] = frozenset(str(sum_) for sum_ in (entry.blob_id, large) if sum_)
    return _There(str(info.sha or ""), bool(info.private), files)


def _earlier(api: HfApi, repo: str, there: _There, token: str) -> dict[str, set[str]]:
    """Return the hashes of what an earlier push put there; empty where nothing says so."""
    if LIST not in there.files:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo, LIST, revision=there.commit or None, cache_dir=folder, token=token)
        with open(path, encoding="utf-8") as file:
            try:
                found = json.load(file)["files"]
                return {str(name): {str(row["sha256"]), str(row["git"])} - {""} for name, row in found.items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                return {}


def _is_ours(name: str, there: _There, earlier: Mapping[str, set[str]]) -> bool:
    """Whether a file in the repository is as a push of safekey left it."""
    if name in _HUBS_OWN or (name == LIST and earlier):
        return True
    return bool(there.files[name] & earlier.get(name, set()))


def _check_visibility(repo: str, there: _There, public: bool) -> None:
    if not there.private and not public:
        raise UserError(f"{repo}: is public: --public uploads there, for everybody to see; or make it private first")


def _refuse(repo: str, foreign: Sequence[str]) -> None:
    shown = ", ".join(printable(name) for name in foreign[:_SHOWN])
    more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
    raise UserError(
        f"{repo}: holds files that safekey did not put there, or that were changed since ({shown}{more}): give another "
        "name, or --overwrite, which replaces those of the same names and leaves the others"
    )


@contextmanager
def _one_line(repo: str, token: str) -> Iterator[None]:
    """Turn whatever the hub's client raises into one line without the token."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # its client, the network's library and the uploader raise dozens of kinds
        raise UserError(_said(repo, error, token)) from None


def _said(repo: str, error: Exception, token: str) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    endpoint = without_login(os.environ.get("HF_ENDPOINT", "").rstrip("/") or constants.ENDPOINT)
    status = getattr(getattr(error, "response", None), "status_code", None)
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    detail = without_login(printable(first.replace(token, "***")))[:300]
    if isinstance(error, OfflineModeIsEnabled):
        return f"{repo}: HF_HUB_OFFLINE is set, so nothing is uploaded: unset it"
    known = {
        401: f"the hub at {endpoint} does not accept the token in {TOKEN} (401): make a new one, with write access",
        403: f"the token in {TOKEN} may not write to this repository (403): {detail}",
        404: f"is not there (404), or the token in {TOKEN} may not see it",
        409: f"was changed by somebody else meanwhile, or made just now (409): push again ({detail})",
        412: "was changed by somebody else meanwhile (412): push again",
        413: "the hub refuses files of this size (413)",
        429: "the hub asks to wait (429): try again later",
    }
    if status in known:
        return f"{repo}: {known[status]}"
    if isinstance(status, int):
        return f"{repo}: the hub at {endpoint} failed ({status}): {detail}; push again"
    kinds = {kind.__name__ for kind in type(error).__mro__}  # of httpx, or of what the hub's client uses in its place
    if kinds & {"TransportError", "ConnectionError", "OSError"}:
        return f"{repo}: the hub at {endpoint} cannot be reached ({type(error).__name__}: {detail}); push again"
    return f"{repo}: the upload failed ({type(error).__name__}: {detail})"
