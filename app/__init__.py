"""flashgate: the gateway in front of Gemini 3.1 Flash Image."""
