from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from tests.integration.commissions.brokerage import Brokerage, build


@pytest.fixture
def house(session: Session) -> Brokerage:
    return build(session)


@pytest.fixture
def minute() -> timedelta:
    return timedelta(minutes=1)
