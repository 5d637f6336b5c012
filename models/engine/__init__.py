"""The inference engine: generates and scores token ids. Knows neither text nor users."""
