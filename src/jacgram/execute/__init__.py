"""Running tiles: what happens is told in events, who does it is an executor.

Reading order: `events`, `work` (what an executor is given), `serial`, `dask`; `progress` and `log` listen.
"""

from jacgram.execute.dask import Dask
from jacgram.execute.events import Event, Listener
from jacgram.execute.log import JsonLog
from jacgram.execute.progress import ProgressBar
from jacgram.execute.serial import Serial
from jacgram.execute.work import Executor

__all__ = ["Dask", "Event", "Executor", "JsonLog", "Listener", "ProgressBar", "Serial"]
