"""The page as a server: its launch, its visitors, which requests reach it, and its errors."""
