"""Whether an account may write to a repository, as far as its token tells, before anything is uploaded."""

from collections.abc import Mapping

from hf_paint.errors import InputError


def check_owner(user: Mapping[str, object], repo_id: str) -> str:
    """Return a sentence on the account and its right to write to a repository, new or not.

    Fine-grained tokens do not tell all organisations of their account, nor where they may write.

    Args:
        user: Account, as the Hub's `whoami` describes it.
        repo_id: Hub repository id.

    Raises:
        InputError: If the id names no owner, or the account certainly may not write there.

    Example:
        >>> token = {"type": "access_token", "accessToken": {"role": "write"}}
        >>> check_owner({"name": "me", "orgs": [{"name": "museum"}], "auth": token}, "museum/clip-mnist")
        'me may write to museum'
    """
    name, (owner, _, own) = user["name"], repo_id.partition("/")
    if not own:
        raise InputError(f"'{repo_id}' names no owner. Use the id {name}/{repo_id}.")
    role, orgs = _role(user), user.get("orgs")
    if role == "read":
        raise InputError(
            f"The token of {name} is read-only, so it cannot write to {repo_id}. Log in with a token that has write "
            "access: hf auth login"
        )
    if role == "write" and isinstance(orgs, list):
        if owner not in (name, *(org["name"] for org in orgs)):
            raise InputError(
                f"{name} cannot write to {repo_id}: '{owner}' is neither this account nor an organisation of it. Use "
                f"the id {name}/{own}, or log in with another account: hf auth login"
            )
        return f"{name} may write to {owner}"
    return f"The token of {name} does not tell whether it may write to {owner}"


def _role(user: Mapping[str, object]) -> object:
    """Return `read`, `write`, `fineGrained` or, for other kinds of tokens, None."""
    auth = user.get("auth")
    token = auth.get("accessToken") if isinstance(auth, dict) else None
    return token.get("role") if isinstance(token, dict) else None
