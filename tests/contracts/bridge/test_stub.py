"""Holds the bridge, and the fake it is tested on, against MetaQuotes' own package: its stub file and its program.

The package has wheels for Windows only, so it cannot be imported here. It is downloaded once (pip's own cache, and the
folder LOTWISE_CACHE or ~/.cache/lotwise), and its stub is read as text.
"""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.metatrader.bridge import manager, records, sinks
from tests.contracts.bridge import fake_manager

VERSION = "5.0.6231"
WHEEL = f"mt5manager-{VERSION}-cp311-cp311-win_amd64.whl"
BRIDGE = Path(manager.__file__).parent


@dataclass
class Stub:
    """Classes with their attributes and methods; a method has the argument names of each of its overloads."""

    attributes: dict[str, set[str]] = field(default_factory=dict)
    methods: dict[str, dict[str, list[list[str]]]] = field(default_factory=dict)
    functions: dict[str, list[str]] = field(default_factory=dict)


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The real package's wheel. Skips only when it cannot be had."""
    cache = Path(os.environ.get("LOTWISE_CACHE") or Path.home() / ".cache" / "lotwise") / "mt5manager"
    path = cache / WHEEL
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    # Several test processes may come here at once: each loads for itself, and the file appears whole.
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [
            sys.executable, "-m", "pip", "download", f"mt5manager=={VERSION}", "--platform", "win_amd64",
            "--python-version", "3.11", "--only-binary=:all:", "--no-deps", "--quiet", "--dest", folder,
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip(f"mt5manager {VERSION} cannot be downloaded: no answer within 240 s")
        if done.returncode:
            pytest.skip(f"mt5manager {VERSION} cannot be downloaded: {done.stderr.strip()[-300:]}")
        (Path(folder) / WHEEL).replace(path)
    return path


@pytest.fixture(scope="session")
def stub(wheel) -> Stub:
    with zipfile.ZipFile(wheel) as parts:
        tree = ast.parse(parts.read("MT5Manager/_core.pyi"))
    read = Stub()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            _read_class(read, node, node.name)
        elif isinstance(node, ast.FunctionDef):
            read.functions[node.name] = [argument.arg for argument in node.args.args]
    return read


def _read_class(read: Stub, node: ast.ClassDef, name: str) -> None:
    read.attributes[name], read.methods[name] = set(), {}
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            read.attributes[name].add(part.target.id)
        elif isinstance(part, ast.FunctionDef):
            arguments = [argument.arg for argument in part.args.args][1:]
            read.methods[name].setdefault(part.name, []).append(arguments)
        elif isinstance(part, ast.ClassDef):
            _read_class(read, part, f"{name}.{part.name}")


@pytest.fixture(scope="session")
def program_bytes(wheel) -> bytes:
    with zipfile.ZipFile(wheel) as parts:
        return parts.read("MT5Manager/_core.cp311-win_amd64.pyd")


def _calls() -> dict[str, int]:
    """The API methods that manager.py calls, with how many arguments: self._api.X(…) and self._asked(self._api.X, …)."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse((BRIDGE / "manager.py").read_text())):
        if not isinstance(node, ast.Call):
            continue
        if (name := _api_name(node.func)) is not None:
            found[name] = len(node.args)
        elif node.args and (name := _api_name(node.args[0])) is not None:
            found[name] = len(node.args) - 1
    return found


def _api_name(node: ast.expr) -> str | None:
    is_api = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "_api"
    return node.attr if is_api else None


def test_every_call_of_the_bridge_is_a_method_with_so_many_arguments(stub):
    calls = _calls()
    assert len(calls) == 26, sorted(calls)
    for name, count in calls.items():
        overloads = stub.methods["ManagerAPI"].get(name)
        assert overloads, f"ManagerAPI has no {name}"
        assert count in {len(arguments) for arguments in overloads}, f"{name} takes {overloads}"


def test_the_api_is_reached_in_one_module_only():
    for path in BRIDGE.glob("*.py"):
        text = path.read_text()
        if path.name != "manager.py":
            assert "_api." not in text, path.name
            assert "import_module" not in text, path.name
            assert "LastError(" not in text, path.name


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("MTDeal", records.DEAL_FIELDS),
        ("MTPosition", records.POSITION_FIELDS),
        ("MTOrder", records.ORDER_FIELDS),
        ("MTUser", records.USER_FIELDS),
        ("MTAccount", records.STATE_FIELDS),
        ("MTConGroup", ("CurrencyDigits",)),
    ],
)
def test_every_field_that_is_copied_is_an_attribute(stub, kind, fields):
    assert set(fields) <= stub.attributes[kind]


def test_modes_and_errors_are_reached_by_their_names(stub):
    text = (BRIDGE / "manager.py").read_text()
    modes = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute) and "PUMP_MODE" in node.attr}
    assert modes == {f"PUMP_MODE_{name}" for name in ("USERS", "ORDERS", "POSITIONS", "GROUPS", "SYMBOLS")}
    assert modes <= stub.attributes["ManagerAPI.EnPumpModes"]
    assert stub.functions["LastError"] == []


def _handlers() -> set[str]:
    return {
        name
        for _, sink in inspect.getmembers(sinks, inspect.isclass)
        if issubclass(sink, sinks.Sink)
        for name in vars(sink)
        if name.startswith("On")
    }


def test_every_handler_is_a_name_that_the_program_looks_up(program_bytes):
    """The stub is silent about callbacks; the compiled module holds the names it looks for in a sink."""
    handlers = _handlers()
    assert len(handlers) == 27, sorted(handlers)
    for name in handlers:
        assert b"\x00" + name.encode() + b"\x00" in program_bytes, f"{name} is not looked up"
    assert b"\x00OnDealPerform\x00" not in program_bytes, "the search finds what is not there"


def test_every_handler_of_the_fake_is_looked_up_too(program_bytes):
    for names in fake_manager.HANDLERS.values():
        for name in names:
            assert b"\x00" + name.encode() + b"\x00" in program_bytes, name


def test_the_fakes_methods_have_the_stubs_names_and_arguments(stub):
    methods = {
        name: function
        for name, function in inspect.getmembers(fake_manager.ManagerAPI, inspect.isfunction)
        if name[0].isupper()
    }
    assert set(_calls()) <= set(methods), "the fake lacks what the bridge calls"
    for name, function in methods.items():
        assert list(inspect.signature(function).parameters)[1:] in stub.methods["ManagerAPI"][name], name


@pytest.mark.parametrize("kind", ["MTDeal", "MTPosition", "MTOrder", "MTUser", "MTAccount"])
def test_the_fakes_objects_have_the_stubs_attributes_and_no_others(stub, kind):
    made = vars(getattr(fake_manager, kind)())
    assert set(made) == stub.attributes[kind]


def test_the_fakes_groups_have_only_attributes_of_the_stub(stub):
    assert set(vars(fake_manager.MTConGroup())) <= stub.attributes["MTConGroup"]


def test_the_fakes_functions_and_numbers_have_the_stubs_names(stub):
    for function in (fake_manager.LastError, fake_manager.InitializeManagerAPIPath):
        assert list(inspect.signature(function).parameters) == stub.functions[function.__name__]
    assert set(fake_manager.EnMTAPIRetcode.__members__) <= stub.attributes["EnMTAPIRetcode"]
    assert set(fake_manager.ManagerAPI.EnPumpModes.__members__) <= stub.attributes["ManagerAPI.EnPumpModes"]
