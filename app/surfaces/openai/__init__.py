"""The OpenAI dialect: its Images API over the same gateway."""
