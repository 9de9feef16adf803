"""The command line."""

import signal
import sys
import threading

# While the program loads, Ctrl-C ends it without a word; ``app.main`` takes over from there. Who imports this
# package for another program keeps what it has.
LOADING = (
    sys.argv[:1] != []
    and sys.argv[0].endswith("/p2prss")
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if LOADING:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
