"""Job statuses: bulk work that Zendesk does later, with one result per item."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from integrations.sandbox.server import Request, Response
from integrations.sandbox.zendesk_account import Account
from integrations.sandbox.zendesk_wire import Json, RefusedError, cursor_page, forbidden, listed, not_found

Step = Callable[[int], Json]
KEPT = timedelta(days=1)
ENDED = ("completed", "failed")


@dataclass(slots=True)
class Job:
    """One bulk call; `steps` take their index and return the item's result."""

    id: str
    kind: str
    steps: list[Step]
    made_at: datetime
    polls: int = 0
    status: str = "queued"
    message: str | None = None
    results: list[Json] | None = None


class Jobs:
    """Runs a job on its second poll, or by itself once it is old enough."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.rows: dict[str, Job] = {}
        account.route("GET", "/api/v2/job_statuses", self.list_all)
        account.route("GET", "/api/v2/job_statuses/show_many", self.show_many)
        account.route("GET", "/api/v2/job_statuses/([^/]+)", self.show_one)

    def start(self, kind: str, steps: list[Step], *, status: int = 200) -> Response:
        """Queue the steps and answer the job, or refuse while 30 are under way."""
        if not self.account.bulk:
            raise forbidden("You do not have access to this bulk operation")
        if sum(job.status not in ENDED for job in self.rows.values()) >= self.account.job_limit:
            words = "Too many jobs are queued or running, please try again later"
            raise RefusedError(self.account.job_limit_status, {"error": "TooManyJobs", "description": words})
        job = Job(f"V3-{next(self.account.numbers):032x}", kind, steps, self.account.clock())
        self.rows[job.id] = job
        return Response(status, {"job_status": self._shown(job)})

    def run_due(self) -> None:
        """Finish jobs that have waited long enough and forget those of yesterday."""
        now = self.account.clock()
        for job in list(self.rows.values()):
            if job.status not in ENDED and now - job.made_at >= timedelta(seconds=self.account.job_seconds):
                self._run(job)
            if now - job.made_at > KEPT:
                del self.rows[job.id]

    def forget(self) -> None:
        """Lose all jobs, done or not, as after a day."""
        with self.account.lock:
            self.rows.clear()

    def _run(self, job: Job) -> None:
        if self.account.jobs_stuck:
            return
        if self.account.jobs_break_after is not None:
            for index, step in enumerate(job.steps[: self.account.jobs_break_after]):
                step(index)
            job.status, job.message = "failed", "An internal error occurred"
            return
        job.results = [step(index) for index, step in enumerate(job.steps)]
        job.status = "completed"  # even when every item failed
        job.message = f"Completed at {self.account.clock():%Y-%m-%d %H:%M:%S} +0000"

    def _poll(self, job: Job) -> Json:
        job.polls += 1
        if job.status not in ENDED and job.polls > 1:
            self._run(job)
        elif job.status not in ENDED:
            job.status, job.message = "working", f"{job.kind} #1"
        return self._shown(job)

    def _shown(self, job: Job) -> Json:
        progress = {"queued": None, "working": 1, "completed": len(job.steps)}.get(job.status)
        return {
            "id": job.id,
            "job_type": job.kind,
            # The vendor names another host than the one called; nobody may send credentials there.
            "url": f"https://pod-28.zendesk.invalid/api/v2/job_statuses/{job.id}.json",
            "total": len(job.steps),
            "progress": progress,
            "status": job.status,
            "message": job.message,
            "results": job.results,
        }

    # https://developer.zendesk.com/api-reference/ticketing/ticket-management/job_statuses/
    def show_one(self, request: Request, job_id: str) -> Response:
        """Answer one job."""
        if job_id not in self.rows:
            raise not_found()
        return Response(200, {"job_status": self._poll(self.rows[job_id])})

    def show_many(self, request: Request) -> Response:
        """Answer the named jobs that are still kept."""
        found = [self.rows[job_id] for job_id in listed(request, "ids") if job_id in self.rows]
        return Response(200, {"job_statuses": [self._poll(job) for job in found]})

    def list_all(self, request: Request) -> Response:
        """Answer all jobs that are still kept."""
        return cursor_page(request, "job_statuses", [self._poll(job) for job in self.rows.values()])
