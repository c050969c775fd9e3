"""Operations: logs, metrics, health, clean-up."""
