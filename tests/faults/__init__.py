"""Real processes, and what may befall them: kills, stops, freezes, outages, races."""
