from tests.integration.trading.desk import desk
from tests.integration.trading.house import clock, house

__all__ = ["clock", "desk", "house"]
