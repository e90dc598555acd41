"""Checks that a library has the functions that onecred calls: core-abi.py abi.rs LIBRARY."""

import ctypes
import pathlib
import re
import sys

known = pathlib.Path(sys.argv[1]).read_text()
library = ctypes.CDLL(sys.argv[2])
contract = int(re.search(r"CONTRACT: u32 = (\d+)", known)[1])
checksums = re.findall(r'\("(\w+)", (\d+)\)', known)
assert len(checksums) == 4, checksums
found = library.ffi_op_uniffi_core_uniffi_contract_version()
assert found == contract, f"contract version {found}, not {contract}"
for function, checksum in checksums:
    found = getattr(library, f"uniffi_op_uniffi_core_checksum_func_{function}")() & 0xFFFF
    assert found == int(checksum), f"checksum {found} of {function}, not {checksum}"
