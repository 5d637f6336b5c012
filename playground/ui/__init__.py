"""The page. The only place, beside app.py, that knows Gradio."""
