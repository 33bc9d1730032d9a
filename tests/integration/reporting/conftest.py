from tests.integration.trading.house import house

__all__ = ["house"]
