"""Roll-ups: outcomes, durations and errors counted per span of time, for operators."""
