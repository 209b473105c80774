"""Logs as runners write them: sections, colours, progress with bare CR, stamped lines with `+` continuations.

The grammar is the runner's: helpers/build_section.go and buildlogger/internal/timestamper/timestamper.go in
gitlab-runner's source; https://docs.gitlab.com/ci/jobs/job_logs/ shows what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from asyncjobs.testing._time import START_EPOCH

CLEAR = "\x1b[0K"
RESET = "\x1b[0;m"
GREEN, YELLOW, RED, CYAN = "\x1b[32;1m", "\x1b[0;33m", "\x1b[31;1m", "\x1b[36;1m"
RUNNER, SCRIPT, SERVICE = "00", "01", "0f"


class RunnerLog:
    """Builds the bytes of a log.

    Args:
        start: Time of the first line, seconds since the epoch.
        step: Seconds from one write to the next.
        timestamps: Whether every line is stamped, as current runners do.
    """

    def __init__(self, *, start: float = START_EPOCH, step: float = 0.137, timestamps: bool = True) -> None:
        self._now = datetime.fromtimestamp(start, UTC)
        self._step = timedelta(seconds=step)
        self._timestamps = timestamps
        self._pieces: list[bytes] = []
        self._continued: dict[str, bool] = {}
        self._held: dict[str, tuple[datetime, str]] = {}
        self._sections: list[str] = []

    @property
    def data(self) -> bytes:
        """The log so far."""
        return b"".join(self._pieces)

    def write(self, text: str, *, stream: str = SCRIPT, kind: str = "O") -> None:
        """One write of a process: any text, with or without line ends.

        Args:
            text: What is written; a CR without LF makes an entry of its own, as a progress bar does.
            stream: 00 the runner, 01 the script, 0f and up services.
            kind: O stdout, E stderr.
        """
        self._now += self._step
        if not self._timestamps:
            self._pieces.append(text.encode())
            return
        key = stream + kind
        stamp, before = self._held.pop(key, (self._now, ""))
        *lines, rest = (before + text).split("\n")
        for line in lines:
            self._entry(stamp, key, f"{line}\n", continues=False)
            stamp = self._now
        if "\r" in rest:
            self._entry(stamp, key, f"{rest}\n", continues=True)
        elif rest:
            self._held[key] = (stamp, rest)

    def _entry(self, stamp: datetime, key: str, text: str, *, continues: bool) -> None:
        flag = "+" if self._continued.get(key) else " "
        head = f"{stamp:%Y-%m-%dT%H:%M:%S.%f}Z {key}{flag}"
        self._pieces.append(f"{head}{text}".encode())
        # The entry after this one belongs to the same line when this one had no line end of its own.
        self._continued[key] = continues

    def runner(self, text: str, colour: str = "") -> None:
        """A line of the runner itself."""
        self.write(f"{CLEAR}{colour}{text}{RESET}\n", stream=RUNNER)

    def section(self, name: str, title: str = "", *, options: str = "") -> None:
        """Open a section, with its title line when there is one; `options` such as "collapsed=true"."""
        mark = f"{name}[{options}]" if options else name
        self.write(f"section_start:{int(self._now.timestamp())}:{mark}\r{CLEAR}", stream=RUNNER)
        self._sections.append(name)
        if title:
            self.runner(title, CYAN)

    def end_section(self) -> None:
        """Close the section opened last."""
        name = self._sections.pop()
        self.write(f"section_end:{int(self._now.timestamp())}:{name}\r{CLEAR}", stream=RUNNER)

    def command(self, text: str) -> None:
        """A command of the script, echoed in green."""
        self.write(f"{GREEN}$ {text}{RESET}\n")

    def out(self, *lines: str) -> None:
        """Lines on stdout."""
        for line in lines:
            self.write(f"{line}\n")

    def err(self, *lines: str) -> None:
        """Lines on stderr."""
        for line in lines:
            self.write(f"{line}\n", kind="E")

    def service(self, *lines: str) -> None:
        """Lines of a service container."""
        for line in lines:
            self.write(f"{line}\n", stream=SERVICE)

    def progress(self, frames: Iterable[str]) -> None:
        """A progress bar: each frame overwrites the one before, the last one ends the line."""
        for frame in frames:
            self.write(f"{frame}\r")
        self.write("\n")

    def begin(self, *, image: str = "python:3.13", project: str = "group/app", sha: str = "1a2b3c4d") -> None:
        """What a runner says before the script."""
        self.runner("Running with gitlab-runner 19.4.0 (0123abcd)")
        self.runner("  on docker-runner-7 t1_AbCdEfG, system ID: s_89e5e9956577")
        self.section("prepare_executor", 'Preparing the "docker" executor')
        self.runner(f"Using Docker executor with image {image} ...")
        self.runner(f"Pulling docker image {image} ...")
        self.end_section()
        self.section("get_sources", "Getting source from Git repository")
        self.runner("Fetching changes with git depth set to 20...")
        self.out(f"Reinitialized existing Git repository in /builds/{project}/.git/")
        self.runner(f"Checking out {sha} as detached HEAD (ref is main)...", GREEN)
        self.end_section()
        self.section("step_script", 'Executing "step_script" stage of the job script')

    def succeed(self, *, artifacts: bool = False) -> None:
        """The end of a good job."""
        self.end_section()
        if artifacts:
            self._upload()
        self.runner("Job succeeded", GREEN)

    def fail(self, reason: str = "exit code 1", *, artifacts: bool = False) -> None:
        """The end of a bad job."""
        self.end_section()
        if artifacts:
            self._upload()
        self.section("cleanup_file_variables", "Cleaning up project directory and file based variables")
        self.end_section()
        self.runner(f"ERROR: Job failed: {reason}", RED)

    def _upload(self) -> None:
        self.section("upload_artifacts_on_success", "Uploading artifacts for successful job")
        self.write("Uploading artifacts...\n", stream=RUNNER)
        self.write("dist: found 6 matching artifact files and directories\n", stream=RUNNER)
        self.write(
            'Uploading artifacts as "archive" to coordinator... 201 Created\n',
            stream=RUNNER,
            kind="E",
        )
        self.end_section()
