"""The GraphQL edge: mutations of tasks, queries, subscriptions, and their views."""
