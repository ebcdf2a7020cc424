"""Every message of the shared language, as a class."""

import importlib
import pkgutil
from typing import get_args

import pytest

import services.contracts
from services.contracts.jobs import Frozen

for found in pkgutil.iter_modules(services.contracts.__path__):
    importlib.import_module(f"services.contracts.{found.name}")


def _below(kind: type[Frozen]) -> list[type[Frozen]]:
    return [kind, *(one for child in kind.__subclasses__() for one in _below(child))]


MESSAGES = sorted(
    {kind for kind in _below(Frozen) if kind.__module__.startswith("services.contracts")},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_may_be_absent_has_a_default(kind: type[Frozen]) -> None:
    """Encoding leaves out what is None, so a field that may be None must be readable where it is missing."""
    required = [name for name, field in kind.model_fields.items() if field.is_required()]
    nullable = [name for name in required if type(None) in get_args(kind.model_fields[name].annotation)]
    assert not nullable


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_is_wrong_is_said_without_the_content(kind: type[Frozen]) -> None:
    """A message that cannot be read is logged by what is wrong with it: its content may be somebody's words."""
    with pytest.raises(ValueError, match="error") as caught:
        kind.model_validate_json('["canary-7f3a"]')
    assert "canary" not in str(caught.value)
