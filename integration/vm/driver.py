"""Runs the script of a NixOS test on a booted Debian: driver.py TEST ROOT -- COMMAND...

TEST is the JSON of nixos-module/tests/debian.nix. ROOT becomes part of the machine's root directory. COMMAND boots the machine and runs a shell
in it. The script has the functions of nixpkgs' test driver that our tests use, with the same names and meanings.
"""

import base64
import contextlib
import hashlib
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import time


def lay_out(test, root):
    """Writes the systems to the machine's root, and makes `base` the system that boots."""

    def write(path, text, mode=0o644):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    switch = pathlib.Path(__file__).with_name("switch-to-configuration").read_text()
    for name, files in test["systems"].items():
        system = root / "srv/systems" / name
        for unit, text in files["units"].items():
            write(system / "units" / unit, text)
        for link, unit in files["wanted"].items():
            place = system / "units" / link
            place.parent.mkdir(parents=True, exist_ok=True)
            package = root / "usr/lib/systemd/system" / unit
            place.symlink_to(f"/usr/lib/systemd/system/{unit}" if package.exists() else f"../{unit}")
        # links to the store, by which onecred recognizes NixOS
        for of, text in ("secrets.json", json.dumps(files["secrets"])), ("vault.json", files["vault"]):
            stored = f"nix/store/{hashlib.sha256(text.encode()).hexdigest()[:32]}-{of}"
            write(root / stored, text)
            link = system / "etc/onecred" / of
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"/{stored}")
        write(system / "etc/tmpfiles.d/nixos.conf", files["tmpfiles"])
        write(system / "etc/sysusers.d/nixos.conf", files["sysusers"])
        write(system / "bin/switch-to-configuration", switch, 0o755)
        if name != "base":
            link = root / "srv/systems/base/specialisation" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(f"../../{name}")
        for path, text in files["scripts"].items():
            write(root / path.lstrip("/"), text, 0o755)
    base = root / "srv/systems/base"
    shutil.copytree(base / "units", root / "etc/systemd/system", symlinks=True)
    shutil.copytree(base / "etc", root / "etc", symlinks=True, dirs_exist_ok=True)
    write(root / "etc/tmpfiles.d/current.conf", "L /run/current-system - - - - /srv/systems/base\n")
    # as at the first boot, so that the users exist
    write(root / "etc/systemd/system/systemd-sysusers.service.d/always.conf", "[Unit]\nConditionNeedsUpdate=\n")


class Failed(Exception):
    """What the script expects is not true."""


class Machine:
    """The machine, through a shell in it."""

    name = "machine"

    def __init__(self, command):
        self.shell = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self):
        """It has booted already."""

    def execute(self, command, timeout=180):
        """The exit status and the standard output of a command. Its errors go to the output of this program."""
        script = shlex.quote(f"set -euo pipefail; {command}")
        with contextlib.suppress(BrokenPipeError):
            self._send(f"(timeout {timeout} bash -c {script} </dev/null | base64 -w 0; echo \" ${{PIPESTATUS[0]}}\")\n")
        answer = self.shell.stdout.readline()
        if not answer:
            raise Failed(f"the machine has ended, during: {command}")
        *output, status = answer.split()
        return int(status), base64.b64decode("".join(output)).decode()

    def _send(self, line):
        self.shell.stdin.write(line)
        self.shell.stdin.flush()

    def succeed(self, *commands, timeout=180):
        output = ""
        for command in commands:
            status, said = self.execute(command, timeout)
            if status != 0:
                raise Failed(f"`{command}` failed with status {status}: {said}")
            output += said
        return output

    def fail(self, *commands, timeout=180):
        output = ""
        for command in commands:
            status, said = self.execute(command, timeout)
            if status == 0:
                raise Failed(f"`{command}` succeeded: {said}")
            output += said
        return output

    def wait_until_succeeds(self, command, timeout=120):
        return self._wait(f"`{command}` succeeds", timeout, lambda: self._is(command, lambda status: status == 0))

    def wait_until_fails(self, command, timeout=120):
        return self._wait(f"`{command}` fails", timeout, lambda: self._is(command, lambda status: status != 0))

    def wait_for_file(self, path, timeout=120):
        self.wait_until_succeeds(f"test -e {shlex.quote(path)}", timeout)

    def wait_for_unit(self, unit, timeout=120):
        """Waits until a unit is active. A unit that failed, or is inactive without a job, will not become active."""

        def is_active():
            said = self.succeed(f"systemctl show --no-pager -p ActiveState -p Job {shlex.quote(unit)}")
            shown = dict(line.split("=", 1) for line in said.splitlines())
            state = shown["ActiveState"]
            if state == "failed" or state == "inactive" and not shown.get("Job"):
                raise Failed(f"{unit} is {state}")
            return state == "active" or None

        self._wait(f"{unit} is active", timeout, is_active)

    def systemctl(self, command):
        return self.execute(f"systemctl {command}")

    def _is(self, command, wanted):
        status, said = self.execute(command)
        return said if wanted(status) else None

    @staticmethod
    def _wait(what, timeout, attempt):
        end = time.monotonic() + timeout
        while (result := attempt()) is None:
            if time.monotonic() > end:
                raise Failed(f"waited {timeout} s in vain until {what}")
            time.sleep(0.2)
        return result

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.shell.stdin.close()
        self.shell.wait()


@contextlib.contextmanager
def subtest(name):
    print(f"-- {name}", flush=True)
    yield


def main():
    test, root, _, *command = sys.argv[1:]
    test = json.loads(pathlib.Path(test).read_text())
    lay_out(test, pathlib.Path(root))
    machine = Machine(command)
    try:
        exec(compile(test["testScript"], "testScript", "exec"), {"machine": machine, "subtest": subtest, "start_all": machine.start})
    except Exception as error:
        print(f"FAILED: {type(error).__name__}: {error}", flush=True)
        with contextlib.suppress(Exception):
            print(machine.execute("journalctl --sync; journalctl --no-pager -n 80")[1], flush=True)
        sys.exit(1)
    finally:
        machine.end()


main()
