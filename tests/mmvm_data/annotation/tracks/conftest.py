"""The Label Studio that the tests of ingest share."""

from tests.mmvm_data.annotation.conftest import studio

__all__ = ["studio"]
