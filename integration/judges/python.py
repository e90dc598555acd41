"""Judges a fake Connect server with onepasswordconnectsdk: python.py URL TOKEN"""

import json
import sys
import urllib.request

from onepasswordconnectsdk.client import Client
from onepasswordconnectsdk.errors import FailedToRetrieveItemException, FailedToRetrieveVaultException

URL, TOKEN = sys.argv[1:]
VAULT, DB = "vaultmineaaaaaaaaaaaaaaaaa", "itemdbaaaaaaaaaaaaaaaaaaaa"
DOCUMENT, BINARY = "itemdocumentaaaaaaaaaaaaaa", "filebinaryaaaaaaaaaaaaaaaa"
client = Client(URL, TOKEN)
REFUSED = (FailedToRetrieveItemException, FailedToRetrieveVaultException)


def steer(what, body):
    urllib.request.urlopen(urllib.request.Request(f"{URL}/__fake/{what}", json.dumps(body).encode()))


def fields(item):
    return {field.label: field.value for field in item.fields}


def refused(ask, *words):
    """The client says why it was refused."""
    try:
        ask()
    except REFUSED as error:
        return all(word in str(error) for word in words)
    return False


def list_vaults():
    vaults = client.get_vaults()
    return [vault.name for vault in vaults] == ["My Vault", "dup", "dup", "a.b_c-d", "Ünï"] and vaults[0].id == VAULT


def vault_by_name():
    mine, uni = client.get_vault_by_title("My Vault"), client.get_vault_by_title("Ünï")
    return mine.id == VAULT and mine.content_version == 1 and mine.type == "USER_CREATED" and uni.name == "Ünï"


def items():
    listed = client.get_items(VAULT)
    return len(listed) > 20 and {item.vault.id for item in listed} == {VAULT} and "db" in [item.title for item in listed]


def item_by_id():
    item = client.get_item_by_id(DB, VAULT)
    return item.title == "db" and item.vault.id == VAULT and item.version == 1 and fields(item)["password"] == "hunter2"


def sections():
    item = client.get_item("multi", "My Vault")
    labels = {section.id: section.label for section in item.sections}
    tokens = {labels[field.section.id]: field.value for field in item.fields if field.label == "token"}
    return tokens == {"Prod": "prodtok", "Dev": "devtok"}


def unknown_types():
    found = {field.type: field.value for field in client.get_item("every", VAULT).fields}
    return found["HOLOGRAM"] == "not yet invented" and found["MONTH_YEAR"] == "2025/12"


def files():
    listed = client.get_files(DOCUMENT, VAULT)
    one = client.get_file(BINARY, DOCUMENT, VAULT)
    content = client.get_file_content(BINARY, DOCUMENT, VAULT, one.content_path)
    return len(listed) == 4 and one.size == 256 and one.name == "binary.bin" and content == bytes(range(256))


CHECKS = {
    "lists the vaults": list_vaults,
    "finds a vault by its name": vault_by_name,
    "finds a vault by its ID": lambda: client.get_vault(VAULT).name == "My Vault",
    "finds no vault by a name of other case": lambda: refused(lambda: client.get_vault_by_title("my vault"), "Found 0"),
    "finds two vaults of one name": lambda: refused(lambda: client.get_vault_by_title("dup"), "Found 2"),
    "lists items": items,
    "lists items of a title": lambda: len(client.get_items(VAULT, 'title eq "twin"')) == 2,
    "gets an item by ID": item_by_id,
    "gets an item by title": lambda: fields(client.get_item("db", "My Vault"))["username"] == "bob",
    "gets an item titled like an ID": lambda: client.get_item("abcdefghijklmnopqrstuvwxyz", VAULT).id.startswith("itemlike"),
    "refuses two items of one title": lambda: refused(lambda: client.get_item("twin", VAULT), "Found 2"),
    "gets sections": sections,
    "gets fields of unknown types": unknown_types,
    "gets long values": lambda: len(fields(client.get_item("big", VAULT))["value"]) == 900 * 1024,
    "gets files": files,
    "401": lambda: refused(lambda: Client(URL, "wrong").get_vaults(), "401", "Invalid token signature"),
    "403": lambda: steer("deny", {"vault": VAULT}) or refused(lambda: client.get_vault(VAULT), "403", "not in scope"),
    "404 for an item": lambda: steer("reset", None) or refused(lambda: client.get_item_by_id("a" * 26, VAULT), "404", "not found"),
    "404 for a vault": lambda: refused(lambda: client.get_items("a" * 26), "404", "not found"),
}

failed = 0
for name, check in CHECKS.items():
    try:
        fine, why = check(), ""
    except Exception as error:  # whatever the client stumbles over is a verdict
        fine, why = False, f": {error!r}"
    failed += not fine
    if not fine:
        print(f"FAILED {name}{why}")
print(f"{len(CHECKS) - failed} passed, {failed} failed")
sys.exit(failed != 0)
