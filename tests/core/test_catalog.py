"""Discovery lists every module, whole or with its reason, and every SPEC is complete."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stepscope.core import catalog
from stepscope.core.compatibility import reasons_against
from stepscope.core.encoding import from_json, to_json
from stepscope.core.plan import DecodePlan, LoadPlan
from stepscope.core.presets import DEFAULT, PRESETS, preset
from stepscope.core.request import RunRequest
from stepscope.core.spec import TechniqueSpec


def test_every_backend_is_complete() -> None:
    entries = catalog.backends()
    assert {"null", "pytorch", "pytorch_generate"} <= set(entries)
    for key, entry in entries.items():
        assert entry.spec is not None, entry.reason
        assert entry.spec.key == key
        assert entry.spec.summary and entry.spec.source and entry.spec.devices
        assert entry.spec.honours <= set(catalog.techniques()), "names a technique that does not exist"
        assert callable(catalog.backend_module(key).open_session)
        assert entry.reason == "", "the default runtimes are installed"


def test_every_technique_is_complete_and_sets_fields_that_exist() -> None:
    load, decode = to_json(LoadPlan("m", "b")), to_json(DecodePlan())
    for key, entry in catalog.techniques().items():
        spec = entry.spec
        assert spec is not None, entry.reason
        assert spec.key == key
        assert len(spec.summary) > 80 and spec.cost and spec.source
        assert spec.requires | set(spec.conflicts) <= set(catalog.techniques())
        assert spec.native_for <= set(catalog.backends())
        assert spec.sets, "a technique that sets nothing does nothing"
        sets_load = {name: value for name, value in spec.sets.items() if name in load}
        sets_decode = {name: value for name, value in spec.sets.items() if name in decode}
        assert set(sets_load) | set(sets_decode) == set(spec.sets)
        from_json(LoadPlan, {**load, **sets_load})
        from_json(DecodePlan, {**decode, **sets_decode})
        if spec.native_for:
            assert callable(catalog.technique_module(key).apply)


def test_every_technique_is_honoured_somewhere() -> None:
    for entry in catalog.techniques().values():
        assert isinstance(entry.spec, TechniqueSpec)
        backends = [b.spec for b in catalog.backends().values() if b.spec is not None]
        assert any(not reasons_against(entry.spec, b, d) for b in backends for d in entry.spec.devices & b.devices), (
            entry.key
        )


def test_presets_can_be_run() -> None:
    from stepscope.core.compatibility import resolve

    for item in PRESETS:
        resolve(RunRequest("random:t5-small", ("x",), item.backend, item.techniques))
    assert preset(DEFAULT).key == DEFAULT


def test_a_broken_module_is_listed_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "odd_techniques"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text("import not_a_module")
    (package / "empty.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = catalog._walk("odd_techniques", TechniqueSpec)
    assert "not_a_module" in entries["broken"].reason
    assert "defines no SPEC" in entries["empty"].reason
    for name in list(sys.modules):
        if name.startswith("odd_techniques"):
            del sys.modules[name]
