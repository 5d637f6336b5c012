"""The cache: its folder, files derived for faster starts, and hashes that find damage."""
