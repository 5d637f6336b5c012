"""The endpoints that programs call: /compare, /grid and /lens."""
