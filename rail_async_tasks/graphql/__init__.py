"""The GraphQL edge: mutations made of tasks, queries, subscriptions, and what serves them."""
