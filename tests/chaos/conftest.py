from tests.integration.trading.house import clock, house

__all__ = ["clock", "house"]
