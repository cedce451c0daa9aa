"""The OpenAI dialect: OpenAI's Images API in front of the gateway."""
