"""What operators see and do: logs, metrics, health, clean-up."""
