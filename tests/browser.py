"""A Chromium to look at pages with: it talks over two pipes, so that no package and no port is needed."""

import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60  # seconds for one answer: machines that run tests are busy


def found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. `said` are console messages and uncaught errors, `requests` the addresses that the page asked for."""

    def __init__(self, profile: Path):
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, answers)]  # out of the way of 3 and 4
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # Chromium reads its file 3 and writes its file 4
        script = f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]} {theirs[0]}<&- {theirs[1]}>&-'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", found(), *flags, "about:blank"],
            pass_fds=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (commands, answers, *theirs):
            os.close(end)
        os.set_blocking(self._answers, False)
        self._buffer, self._numbers, self._session = b"", itertools.count(1), None
        self.said: list[str] = []
        self.requests: list[str] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **params) -> dict:
        """The answer to one command of the DevTools protocol; what happens meanwhile is noted."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        return self._until(lambda answer: answer.get("id") == number)["result"]

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.said.clear()
        self.requests.clear()
        for target in ("about:blank", address):  # by way of an empty page: a fragment alone would load nothing
            self("Page.navigate", url=target)
            self._wait_for(target.partition("#")[0])

    def _wait_for(self, address: str) -> None:
        end = time.monotonic() + PATIENCE
        there = f"document.readyState === 'complete' && location.href.split('#')[0] === {address!r}"
        while time.monotonic() < end:
            # in between pages there is no answer but an error
            if self("Runtime.evaluate", expression=there, returnByValue=True)["result"].get("value"):
                return
            time.sleep(0.02)
        raise TimeoutError(f"{address} is not there after {PATIENCE} s")

    def js(self, expression: str):
        """The value of a JavaScript expression, awaited; AssertionError with the page's where it throws."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def close(self) -> None:
        self("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._commands)
        os.close(self._answers)

    def _until(self, wanted) -> dict:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            while b"\0" in self._buffer:
                text, self._buffer = self._buffer.split(b"\0", 1)
                answer = json.loads(text)
                self._note(answer)
                if wanted(answer):
                    assert "error" not in answer, answer["error"]
                    return answer
            try:
                more = os.read(self._answers, 1 << 20)
                assert more, f"{found()} has ended"
                self._buffer += more
            except BlockingIOError:
                time.sleep(0.01)
        raise TimeoutError(f"no answer from {found()} in {PATIENCE} s")

    def _note(self, answer: dict) -> None:
        method, params = answer.get("method"), answer.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.said.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(part.get("value", part)) for part in params["args"]))
        elif method == "Log.entryAdded":
            self.said.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
