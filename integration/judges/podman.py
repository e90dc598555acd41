"""Has podman read an environment file that onecred publishes: podman.py ESCAPE, in a machine with onecred and a vault file."""

import json
import subprocess
import sys

CONFIG = "/etc/onecred/secrets.json"
VAULT = "/etc/onecred/vault.json"
STORAGE = ["podman", "--storage-driver", "vfs", "--root", "/var/tmp/storage", "--runroot", "/run/storage"]
VALUES = [
    "plain",
    "with spaces  between",
    " spaces around ",
    'a "double" and a \'single\' quote',
    "'quoted'",
    '"quoted"',
    "$HOME ${HOME} $$ `id`",
    "100% %h %%",
    "# no comment",
    "after # a hash",
    "back\\slash \\n \\",
    "equals=sign=",
    "postgres://user:p%40ss@host:5432/db?sslmode=require&x=1",
    "tab\there",
    "äöü €",
    "!history! *?[a]",
]


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, **options).stdout


def configure(escape):
    with open(VAULT) as file:
        vault = json.load(file)
    fields = [{"id": f"v{n}", "type": "CONCEALED", "label": f"v{n}", "value": value} for n, value in enumerate(VALUES)]
    item = {"id": "podman".ljust(26, "a"), "title": "podman", "category": "LOGIN", "version": 1, "fields": fields}
    vault["vaults"][0]["items"].append(item)
    with open(VAULT, "w") as file:
        json.dump(vault, file)
    with open(CONFIG) as file:
        config = json.load(file)
    name = vault["vaults"][0]["name"]
    content = "".join(f"V{n}={{{{op://{name}/podman/v{n}}}}}\n" for n in range(len(VALUES)))
    config["templates"] = [{"name": "app", "content": content, "escape": escape, "target": "/run/secrets/app.env"}]
    with open(CONFIG, "w") as file:
        json.dump(config, file)
    run("systemctl", "reload-or-restart", "onecred-resolver.service", "onecred.service")
    run("systemctl", "start", "onecred-file@app.service")


def environment():
    with open("/var/tmp/empty.tar", "wb") as file:
        file.write(bytes(10240))
    run(*STORAGE, "import", "--quiet", "/var/tmp/empty.tar", "judged")
    run(*STORAGE, "create", "--name", "app", "--network", "none", "--env-file", "/run/secrets/app.env", "judged", "/app")
    said = run(*STORAGE, "inspect", "app", "--format", "{{json .Config.Env}}")
    return dict(line.split("=", 1) for line in json.loads(said))


configure(sys.argv[1])
seen = environment()
wrong = [n for n, value in enumerate(VALUES) if seen.get(f"V{n}") != value]
for n in wrong:
    print(f"FAILED: {VALUES[n]!r} became {seen.get(f'V{n}')!r}")
print(f"{len(VALUES) - len(wrong)} passed")
sys.exit(bool(wrong))
