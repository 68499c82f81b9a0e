"""Procedural talking heads and forgeries of them: the data of the embedded default.

`identity` draws people who do not exist, `motion` moves them, `head` and `features` paint them, `scene` puts them before
a background, `forgery` falsifies them, `camera` films both alike, `video` writes and reads the files, `domains` lists the
three data sets' habits, `plan` lays out folders and `build` renders them. `leakage` measures what pixel and spectral
statistics alone give away.
"""
