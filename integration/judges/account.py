"""Judges a fake 1Password service with onepassword-sdk: account.py URL TOKENFILE VAULT VECTORS..."""

import asyncio
import json
import re
import sys
import urllib.request

from onepassword import Client
from onepassword.errors import RateLimitExceededException
from onepassword.types import ItemListFilterByState, ItemListFilterByStateInner

URL, TOKEN_FILE, VAULT, *VECTORS = sys.argv[1:]
MINE, DB = "vaultmineaaaaaaaaaaaaaaaaa", "itemdbaaaaaaaaaaaaaaaaaaaa"
WORDS = {
    "no vault": ("no vault matched", "vaultNotFound"),
    "several vaults": ("more than one vault matched", "tooManyVaults"),
    "no item": ("no item matched", "itemNotFound"),
    "several items": ("more than one item matched", "tooManyItems"),
    "no section": ("no section matched", "noMatchingSections"),
    "no field": ("field cannot be found", "fieldNotFound"),
    "several fields": ("more than one field matched", "tooManyMatchingFields"),
    "not an OTP field": ("can only be applied to TOTP", "incompatibleTOTPQueryParameterField"),
    "not a private key": ("can only be applied to a private key", "incompatibleSshKeyQueryParameterField"),
    "no text": ("only text files are supported", "unsupportedFileFormat"),
    "no value": ("unable to read value", "other"),
}
documents = json.load(open(VAULT))["vaults"]
rows = [line.rstrip("\n").split("\t") for file in VECTORS for line in open(file) if not line.startswith("#")]
# Of two rows of one reference the later counts.
vectors = list({reference: (reference, kind, json.loads(text)) for reference, kind, text in rows}.values())
token = open(TOKEN_FILE).read().strip()


def connect(token):
    return Client.authenticate(auth=token, integration_name="judge", integration_version="1")


def steer(what, body, method="POST"):
    request = urllib.request.Request(f"{URL}/__fake/{what}", json.dumps(body).encode(), method=method)
    return json.load(urllib.request.urlopen(request))


def agrees(kind, expected, value):
    if kind == "otp":
        return re.fullmatch("[0-9]{6}", value) is not None
    return value == expected if kind == "is" else kind == "begins" and value.startswith(expected)


async def resolves(client, reference, kind, expected):
    try:
        value = await client.secrets.resolve(reference)
    except Exception as error:
        return (expected in WORDS and WORDS[expected][0] in str(error)) or f"{error}"
    return agrees(kind, expected, value) or f"gave {value!r}"


async def resolves_all(client):
    """One batch gives the same as one by one."""
    # But for titles that look like an ID: a batch asks for them as such, and fails.
    batch = [vector for vector in vectors if "/abcdefghijklmnopqrstuvwxyz/" not in vector[0]]
    answers = (await client.secrets.resolve_all([vector[0] for vector in batch])).individual_responses
    wrong = []
    for reference, kind, expected in batch:
        answer = answers[reference]
        if answer.error is not None:
            fine = expected in WORDS and answer.error.type == WORDS[expected][1]
        else:
            fine = agrees(kind, expected, answer.content.secret)
        if not fine:
            wrong.append(reference)
    return wrong == [] or f"{wrong}"


async def lists_vaults(client):
    listed = {vault.id: (vault.title, vault.content_version) for vault in await client.vaults.list()}
    return listed == {vault["id"]: (vault["name"], vault["contentVersion"]) for vault in documents}


async def lists_items(client):
    for vault in documents:
        listed = {item.id: item.title for item in await client.items.list(vault["id"])}
        held = {item["id"]: item["title"] for item in vault["items"] if "state" not in item}
        if not held.items() <= listed.items() or any(item.get("state") and item["id"] in listed for item in vault["items"]):
            return f"{vault['name']} has {listed}"
    archived = ItemListFilterByState(content=ItemListFilterByStateInner(active=False, archived=True))
    return [item.title for item in await client.items.list(MINE, archived)] == ["arch"]


async def gets_items(client):
    """Every item's texts come out as they are, whatever the type of their field."""
    for vault in documents:
        for item in vault["items"]:
            if "state" in item:
                continue
            got = await client.items.get(vault["id"], item["id"])
            values = {field.value for field in got.fields} | {got.notes}
            kinds = ("STRING", "CONCEALED", "URL", "EMAIL", "OTP", "TOTP", "SSHKEY", "PHONE")
            texts = {field["value"] for field in item.get("fields", []) if field.get("value") and field["type"] in kinds}
            # The core computes what follows from a private key.
            texts -= {field.get("value") for field in item.get("fields", []) if item["category"] == "SSH_KEY" and field["type"] == "STRING"}
            if got.title != item["title"] or not texts <= values:
                return f"{item['title']} lacks {texts - values}"
    return True


async def reads_files(client):
    got = await client.items.get(MINE, "itemdocumentaaaaaaaaaaaaaa")
    binary = next(file.attributes for file in got.files if file.attributes.name == "binary.bin")
    content = await client.items.files.read(MINE, got.id, binary)
    return got.document.name == "readme.txt" and binary.size == 256 and content == bytes(range(256))


async def sees_changes(client):
    before = next(vault.content_version for vault in await client.vaults.list() if vault.id == MINE)
    steer("edit", {"op": "set", "vault": MINE, "item": DB, "field": "password", "value": "changed"})
    after = next(vault.content_version for vault in await client.vaults.list() if vault.id == MINE)
    value = await client.secrets.resolve("op://My Vault/db/password")
    steer("reset", None)
    return (before + 1, "changed") == (after, value)


async def logs_in_again(client):
    """A session that ends is replaced by the core itself."""
    steer("faults", {"path": "/api/v1/vaults", "times": 1, "do": "end-session"})
    return await client.secrets.resolve("op://My Vault/multi/f1") == "prodtok"


async def refused(ask, *words):
    try:
        await ask
    except Exception as error:
        return all(word in str(error) for word in words) or f"{error}"
    finally:
        steer("faults", None, "DELETE")
    return "was not refused"


async def is_limited(client):
    steer("faults", {"path": "/api/v1/vaults", "do": {"status": {"code": 429, "retryAfter": "1", "message": None}}})
    try:
        await client.vaults.list()
    except RateLimitExceededException:
        return True
    finally:
        steer("faults", None, "DELETE")


async def distrusts(client):
    steer("faults", {"path": "/api/v2/auth/confirm-key", "do": "wrong-signature"})
    return await refused(connect(token), "Server hash was invalid")


async def revoked(client):
    steer("token", {"token": "another"})
    verdict = await refused(connect(token), "you are not authenticated")
    steer("token", {"token": "judged"})
    return verdict


async def main():
    client = await connect(token)
    checks = {
        "resolves all in one batch": resolves_all,
        "lists the vaults": lists_vaults,
        "lists items": lists_items,
        "gets items": gets_items,
        "reads files": reads_files,
        "sees changes": sees_changes,
        "logs in again": logs_in_again,
        "is told of limits": is_limited,
        "distrusts a service without the verifier": distrusts,
        "is refused with a revoked token": revoked,
    }
    for vector in vectors:
        checks[" ".join(vector)] = lambda client, vector=vector: resolves(client, *vector)
    failed = 0
    for name, check in checks.items():
        try:
            verdict = await check(client)
        except Exception as error:  # whatever the client stumbles over is a verdict
            verdict = repr(error)
        if verdict is not True:
            failed += 1
            print(f"FAILED {name}: {verdict}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return failed


sys.exit(asyncio.run(main()) != 0)
