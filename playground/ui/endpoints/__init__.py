"""The API endpoints for programs: /compare, /grid and /lens."""
