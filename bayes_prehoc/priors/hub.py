"""Cards on the Hugging Face hub: a model repository with the files of a card, and `README.md`, which is `card.md`.

Its own client speaks to it (extra `hub`), with the account that is logged in there; `HF_ENDPOINT` names another hub.
What is pushed was validated before, and what is pulled is read as any stranger's card, from a folder of its own: files
of the repository that are no part of a card are not fetched, and none that is larger than a card's may be. A folder
that is shared in any other way needs none of this.
"""

import contextlib
import tempfile
from pathlib import Path

from bayes_prehoc.errors import InputError
from bayes_prehoc.priors.card import PriorCard
from bayes_prehoc.priors.files import CHECKS, DRAWS, FILES, PRIOR, TEXT, contents, load_card

__all__ = ["pull_card", "push_card"]

README = "README.md"


def push_card(card: PriorCard, repository: str, *, private: bool = False, revision: str | None = None) -> str:
    """Put a card into a repository, which is made if it is not there, in one commit.

    Parameters
    ----------
    card : PriorCard
    repository : str
        As "owner/name".
    private : bool
        Of a repository that is made.
    revision : str, optional
        Branch. Default: the main one.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    InputError
        The client is not installed, nobody is logged in, or the hub cannot be reached or refuses.
    """
    api, hub, errors = _client()
    files = contents(card)
    files[README] = files[TEXT]
    with _complaining(errors, repository):
        api.create_repo(repository, private=private or None, exist_ok=True)
        commit = api.create_commit(
            repository,
            [hub.CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=f"Prior card {card.name}",
            revision=revision,
        )
    return str(commit.commit_url)


def pull_card(repository: str, *, revision: str | None = None) -> PriorCard:
    """The card in a repository.

    Parameters
    ----------
    repository : str
        As "owner/name".
    revision : str, optional
        Branch, tag or commit. Default: the main branch.

    Raises
    ------
    InputError
        The client is not installed, the repository cannot be reached or holds no card, or the card is not as it must
        be.
    """
    api, _, errors = _client()
    with tempfile.TemporaryDirectory() as folder:
        with _complaining(errors, repository):
            found = api.model_info(repository, revision=revision, files_metadata=True)
            sizes = {file.rfilename: file.size for file in found.siblings or ()}
            for name in (PRIOR, DRAWS, CHECKS):
                _check_size(name, sizes, repository)
                api.hf_hub_download(repository, name, revision=found.sha, local_dir=folder)
        try:
            return load_card(Path(folder))
        except InputError as error:
            what = error.what.removeprefix(f"{folder}: ")
            raise InputError(what, f"card in {repository}", error.remedy) from None


def _check_size(name, sizes, repository):
    if name not in sizes:
        raise InputError(f"there is no {name} in it", f"repository {repository}", "Name the repository of a card.")
    if sizes[name] is None or sizes[name] > FILES[name]:
        raise InputError(
            f"{name} has {sizes[name]} bytes", f"repository {repository}", f"A card has at most {FILES[name]}."
        )


def _client():
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise InputError("huggingface_hub is not installed", "hub", "pip install 'bayes-prehoc[hub]'") from None
    return hub.HfApi(library_name="bayes-prehoc"), hub, errors


@contextlib.contextmanager
def _complaining(errors, repository):
    """Turn what the client raises into one error that says what to do."""
    # Of the client's own library for HTTP, which bears another name in other versions.
    connection = next(base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    remedies = (
        (errors.RepositoryNotFoundError, "Check the name; of a private one, log in by `hf auth login`."),
        (errors.RevisionNotFoundError, "Name a branch, a tag or a commit that is there."),
        (errors.HFValidationError, "Name it as owner/name."),
        (Exception, "Check the connection, and that you are logged in (`hf auth login`) and may write there."),
    )
    try:
        yield
    except InputError:
        raise
    except (connection, OSError, ValueError, RuntimeError) as error:
        first = ascii((str(error).strip().splitlines() or [type(error).__name__])[0])[1:-1][:300]
        remedy = next(remedy for kind, remedy in remedies if isinstance(error, kind))
        raise InputError(first.rstrip("."), f"repository {ascii(repository)[:120]}", remedy) from None
