"""The nouns: journey, exchange, message, connection, codec, handler, errors, limits. Imports nothing of ours."""
