"""What back office and portal share in showing things: error pages, formats of money, lots and moments."""
