"""The shop: classic cars, flown to an airport near the buyer."""
