"""A model and an image become findings: does the image fit?"""
