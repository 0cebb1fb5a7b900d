"""The page of ``demo.py``; imports utils/, models/, datasets/ and utils/jobs, with which it does what ``test.py`` does.

``examples`` writes the embedded examples as files; ``trial`` registers and fuses two files; ``marks`` holds the points
marked by hand; ``page`` is the Gradio page, the only module that needs Gradio.
"""
