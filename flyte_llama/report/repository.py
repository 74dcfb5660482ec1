"""A repository of the Hugging Face Hub that models are published to: what it holds, and who may write to it.

`check_publishing` finds before a run what would stop its publication after it. Reads the hub and changes nothing there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from flyte_llama.config import PublishConfig
from flyte_llama.errors import PublishError, is_transient_status
from flyte_llama.model import ADAPTER_FOLDER
from flyte_llama.model.adapters.folder import ADAPTER_CARD
from flyte_llama.sources.entry import git_blob_id

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

TOKEN_PROBLEM = "there is no hub token. Set HF_TOKEN, or on a cluster register with FLYTE_LLAMA_SECRET_GROUP."  # noqa: S105  # no token
WEIGHT_SUFFIXES = {*(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx", ".pkl")}
# What someone who loads a model reads, apart from its weights. A publication replaces both, at the top and in the
# adapter's folder, and leaves all other files as they are.
_SMALL_SUFFIXES, _SMALL_NAMES = {".json", ".jinja", ".model"}, {"merges.txt", "vocab.txt"}
_MODEL_FOLDERS = {".", ADAPTER_FOLDER}
# A repository that holds these files alone, at the top, is as good as new: the hub or its owner made them first.
_FIRST_FILES, _PROSE_STEMS = {".gitattributes", ".gitignore"}, {"readme", "license", "licence", "notice"}


class Content(NamedTuple):
    """The content of a file to publish, and what it must be."""

    source: Path | bytes
    num_bytes: int
    sha256: str

    def blob_id(self) -> str | None:
        """git's id of the content; None if the file no longer has it."""
        data = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return git_blob_id(data) if hashlib.sha256(data).hexdigest() == self.sha256 else None


class HubFile(NamedTuple):
    """The content of a file as the hub lists it."""

    num_bytes: int
    sha256: str | None
    """Of a large file (LFS); None for a small one."""

    blob_id: str
    """git's id of a small file; of a large one, the id of the pointer to it."""

    def holds(self, content: Content) -> bool:
        if self.num_bytes != content.num_bytes:
            return False
        return self.sha256 == content.sha256 if self.sha256 else self.blob_id == content.blob_id()


def list_files(hub: HfApi, repository: str, revision: str) -> dict[str, HubFile]:
    """Return path → file for all files of a model repository at a commit."""
    from huggingface_hub.hf_api import RepoFile

    return {
        file.path: HubFile(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id)
        for file in hub.list_repo_tree(repository, recursive=True, revision=revision)
        if isinstance(file, RepoFile)
    }


def model_files(files: Mapping[str, HubFile]) -> dict[str, HubFile]:
    """Return the files of a model: weights, configuration and tokenizer; and those of its adapter, with its card."""
    return {path: file for path, file in files.items() if _is_of_model(PurePosixPath(path))}


def held_file(files: Mapping[str, HubFile]) -> str | None:
    """Return a file, of weights if it has any, that shows that a repository is in use; None if it is as good as new."""
    paths = sorted(path for path in files if not _is_first(PurePosixPath(path)))
    return min(paths, key=lambda path: PurePosixPath(path).suffix.lower() not in WEIGHT_SUFFIXES, default=None)


def replacement_problem(
    hub: HfApi, repository: str, held: Mapping[str, HubFile], *, published: str | None, revision: str | None = None
) -> str | None:
    """Return why a model must not replace what the repository holds, or None if it may.

    Args:
        held: The files at the repository's present commit.
        published: The model that the new one is compared with (`evaluation.published`); None if there is none.
        revision: The commit at which that model was measured; None if it is yet to be measured.
    """
    file = held_file(held)
    if file is None:
        return None
    fix = (
        f"Set evaluation.published: {repository}, so that a new model replaces the one there only if it is better, or "
        "publish to another repository."
    )
    if published is None:
        return f"is not empty, it holds {file}, but evaluation.published names none. {fix}"
    if published.lower() != repository.lower():
        return f"is not empty, it holds {file}, but evaluation.published is another one, {published}. {fix}"
    if revision is not None and model_files(list_files(hub, repository, revision)) != model_files(held):
        return "has changed since this run measured its model. Start the same command again, which measures it again."
    return None


def check_publishing(publish: PublishConfig, published_model: str | None, token: str | None) -> list[str]:
    """Return what would stop a publication: the token, a permission, or the repository and what it holds.

    Asks the hub. Empty if nothing is to be published, or nothing would stop it.

    Args:
        published_model: The model that the new one must beat; None if there is none.
        token: The hub token that the run will publish with.

    Raises:
        PublishError: if the hub cannot be reached; transient.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if publish.repository is None:
        return []
    key = f"publish.repository = {publish.repository}"
    try:
        validate_repo_id(publish.repository)
    except HFValidationError as error:
        return [f"{key}: is not a name that the hub allows. {error}"]
    if not token:
        return [f"{key}: {TOKEN_PROBLEM}"]

    hub = HfApi(token=token)
    with hub_errors(publish.repository):
        # who the token belongs to
        try:
            account = hub.whoami()
        except HfHubHTTPError as error:
            if error.response is None or error.response.status_code not in (401, 403):
                raise
            return [f"{key}: the hub does not accept the token in HF_TOKEN. Make a new one with write permission."]

        # whether it may write to the repository, or create it
        info = find_repository(hub, publish.repository)
        if info is None:
            problem = _creation_problem(account, publish.repository)
            return [f"{key}: does not exist, and {problem}"] if problem else []
        problems = [_permission_problem(hub, publish.repository), _state_problem(info, publish)]

        # whether it may replace what is there
        held = list_files(hub, publish.repository, str(info.sha))
        problems.append(replacement_problem(hub, publish.repository, held, published=published_model))
    return [f"{key}: {problem}" for problem in problems if problem]


def find_repository(hub: HfApi, repository: str) -> ModelInfo | None:
    """Return what the hub says of a model repository, or None if it has none that the token may see."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return hub.model_info(repository)
    except RepositoryNotFoundError:
        return None


def visibility_problem(info: ModelInfo, *, private: bool) -> str | None:
    """Return a problem if everybody may see a repository that is to be private."""
    if private and info.private is False:
        return "is public, but publish.private = true. Make the repository private, or set publish.private: false."
    return None


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turn errors of the hub, its client and the network into a PublishError, transient if a retry may succeed."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # the client also raises errors of its HTTP library and of the system
        response = getattr(error, "response", None)
        reason = f"{type(error).__name__}: {error}"
        if response is not None:
            raise PublishError(
                f"publish.repository = {repository}: the hub refused a request ({reason}).",
                transient=is_transient_status(response.status_code),
            ) from None
        raise PublishError(
            f"publish.repository = {repository}: the hub cannot be reached ({reason}). Check the network, and start "
            "the same command again.",
            transient=not isinstance(error, ValueError),
        ) from None


def _permission_problem(hub: HfApi, repository: str) -> str | None:
    """Return a problem if the token may not write to an existing repository."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        hub.auth_check(repository, write=True)
    except HfHubHTTPError as error:
        if error.response is None or error.response.status_code not in (401, 403, 404):
            raise
        return "the token in HF_TOKEN may not write to it. Use a token with write permission for it."
    return None


def _state_problem(info: ModelInfo, publish: PublishConfig) -> str | None:
    """Return a problem if the repository was renamed, is switched off, or shows to all what should be private."""
    if info.id and publish.repository and info.id.lower() != publish.repository.lower():
        return f"is now called {info.id}. Write that name."
    if info.disabled:
        return "is disabled by the hub. Use another one."
    return visibility_problem(info, private=publish.private)


def _creation_problem(account: Mapping[str, Any], repository: str) -> str | None:
    """Return why this account and token may not create the repository, or None if nothing speaks against it.

    Args:
        account: The hub's answer on who the token belongs to.
    """
    owner = repository.split("/")[0].lower()
    roles = {str(each.get("name")).lower(): each.get("roleInOrg") for each in account.get("orgs") or []}
    if owner != str(account.get("name")).lower():
        if owner not in roles:
            return f"the token belongs to {account.get('name')}, who is not a member of {owner}. Use another owner."
        if roles[owner] in ("read", "no_access"):
            return f"{account.get('name')} may only read in {owner}. Ask for the role contributor or write."
    token = (account.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        return "the token in HF_TOKEN may only read. Use a token with write permission."
    if token.get("role") == "fineGrained":
        scopes = (token.get("fineGrained") or {}).get("scoped") or []
        allowed = any(
            str((scope.get("entity") or {}).get("name")).lower() == owner
            and "repo.write" in scope.get("permissions", [])
            for scope in scopes
        )
        if not allowed:
            return f"the token in HF_TOKEN may not write to repositories of {owner}. Give it that permission."
    return None


def _is_of_model(path: PurePosixPath) -> bool:
    if path == PurePosixPath(ADAPTER_FOLDER, ADAPTER_CARD):
        return True
    if path.parent.as_posix() not in _MODEL_FOLDERS or _is_prose(path):
        return False
    return path.suffix.lower() in WEIGHT_SUFFIXES | _SMALL_SUFFIXES or path.name.lower() in _SMALL_NAMES


def _is_first(path: PurePosixPath) -> bool:
    return path.parent.name == "" and (path.name.lower() in _FIRST_FILES or _is_prose(path))


def _is_prose(path: PurePosixPath) -> bool:
    """Whether a file is a README, a licence or a notice by its name: LICENSE, LICENSE-LLAMA, license.txt, README.md."""
    words = re.split(r"[^a-z]", path.name.lower())
    return words[0] in _PROSE_STEMS and path.suffix.lower() not in WEIGHT_SUFFIXES
