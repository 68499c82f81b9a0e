"""Progress: plain lines say how far it is and what is left; a hidden bar says nothing; a line of its own goes the same way."""

import io

from common.progress import Progress


def test_plain_lines_count_note_and_tell_the_time_left():
    stream = io.StringIO()
    bar = Progress(None, "videos", 3, every=-1, done=1, stream=stream)
    bar.note("7 faces")
    bar.advance()
    bar.tell("failed: a.mp4")
    bar.advance()
    bar.close()
    first, told, last = stream.getvalue().splitlines()
    assert first.startswith("videos 2/3 7 faces (")
    assert first.endswith("s left)")
    assert told == "failed: a.mp4"
    assert last == "videos 3/3 7 faces (0 s left)"


def test_lines_come_at_intervals_and_the_last_where_asked():
    for last_line, wanted in ((False, []), (True, ["faces 4/4 (0 s left)"])):
        stream = io.StringIO()
        assert list(Progress(range(4), "faces", 4, every=3600, last_line=last_line, stream=stream)) == [0, 1, 2, 3]
        assert stream.getvalue().splitlines() == wanted


def test_processes_beside_the_main_one_are_silent():
    stream = io.StringIO()
    list(Progress(range(3), "epoch", 3, shown=False, every=-1, last_line=True, stream=stream))
    assert stream.getvalue() == ""
