"""The backend for servers that speak the API of OpenAI."""
