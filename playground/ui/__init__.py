"""The page. Only this package and app.py depend on Gradio."""
