"""The endpoints as users call them: GitLab's names, typed values, and what each may raise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from asyncjobs._api import Api
from asyncjobs._models import Bridge, Job, Pipeline, Project
from asyncjobs._options import Scope


class EndpointMethods:
    """One method, one endpoint. Projects are ids or full paths such as `group/app`.

    Every method raises `RequestError` when no usable answer arrived within the retry policy, and a
    `ResponseError` when GitLab said no; each names only what is special to it.
    """

    @property
    def _api(self) -> Api:
        raise NotImplementedError

    # -- listings ---------------------------------------------------------------------------------

    def iter_project_jobs(self, project: int | str, *, scope: Scope = None) -> AsyncIterator[Job]:
        """Walk the jobs of a project, newest first; retried ones included, trigger jobs not.

        Args:
            project: Id or full path.
            scope: One status, several, or None for all.

        Raises:
            NotFoundError: No such project, or the token may not see it.
            RequestError, ResponseError: A page could not be had; nothing is skipped silently.

        GitLab: https://docs.gitlab.com/api/jobs/#list-all-jobs-for-a-project (600 requests a minute per user)
        """
        return self._api.iter_project_jobs(project, scope=scope)

    def iter_pipeline_jobs(
        self, project: int | str, pipeline_id: int, *, scope: Scope = None, include_retried: bool = False
    ) -> AsyncIterator[Job]:
        """Walk the jobs of a pipeline: the latest attempt of each, or all with *include_retried*.

        A caller who may see the pipeline but not its jobs gets none and no error: so GitLab does it.

        Raises:
            NotFoundError: No such pipeline.
            RequestError, ResponseError: A page could not be had.

        GitLab: https://docs.gitlab.com/api/jobs/#list-all-jobs-for-a-pipeline
        """
        return self._api.iter_pipeline_jobs(
            project, pipeline_id, scope=scope, include_retried=include_retried
        )

    def iter_pipeline_bridges(
        self, project: int | str, pipeline_id: int, *, scope: Scope = None
    ) -> AsyncIterator[Bridge]:
        """Walk the trigger jobs of a pipeline, under either name of the endpoint.

        Raises:
            NotFoundError: No such pipeline.
            RequestError, ResponseError: A page could not be had.

        GitLab: https://docs.gitlab.com/api/jobs/#list-all-trigger-jobs-for-a-pipeline
        """
        return self._api.iter_pipeline_bridges(project, pipeline_id, scope=scope)

    def iter_project_pipelines(self, project: int | str, **filters: object) -> AsyncIterator[Pipeline]:
        """Walk the pipelines of a project, newest first.

        Args:
            project: Id or full path.
            **filters: GitLab's own names: `scope`, `status`, `ref`, `sha`, `username`, `source`, `name`,
                `updated_after`, `updated_before`, `created_after`, `created_before`, `order_by`, `sort`.
                Datetimes must be aware.

        Raises:
            RequestError, ResponseError: A page could not be had.

        GitLab: https://docs.gitlab.com/api/pipelines/#list-project-pipelines
        """
        return self._api.iter_project_pipelines(project, filters)

    def iter_group_projects(self, group: int | str, include_subgroups: bool = True) -> AsyncIterator[Project]:
        """Walk the projects of a group and of its subgroups; projects only shared with it are left out.

        Raises:
            NotFoundError: No such group, or the token may not see it.
            RequestError, ResponseError: A page could not be had.

        GitLab: https://docs.gitlab.com/api/groups/#list-projects
        """
        return self._api.iter_group_projects(group, include_subgroups=include_subgroups)

    # -- single objects ---------------------------------------------------------------------------

    async def get_job(self, project: int | str, job_id: int) -> Job:
        """Get one job. The id of a trigger job is not found here.

        Raises:
            NotFoundError: No such job, or the token may not see it.

        GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job
        """
        return await self._api.get_job(project, job_id)

    async def get_current_job(self) -> Job:
        """Get the job that the client's job token belongs to.

        Raises:
            NotFoundError: The client has another kind of token.
            AuthenticationError: The job is over, and its token with it.

        GitLab: https://docs.gitlab.com/api/jobs/#retrieve-a-job-by-job-token
        """
        return await self._api.get_current_job()

    async def get_pipeline(self, project: int | str, pipeline_id: int) -> Pipeline:
        """Get one pipeline.

        Raises:
            NotFoundError: No such pipeline.

        GitLab: https://docs.gitlab.com/api/pipelines/#retrieve-a-pipeline
        """
        return await self._api.get_pipeline(project, pipeline_id)

    async def get_project(self, project: int | str) -> Project:
        """Get one project.

        Raises:
            NotFoundError: No such project, or the token may not see it.

        GitLab: https://docs.gitlab.com/api/projects/#retrieve-a-project
        """
        return await self._api.get_project(project)

    # -- actions ----------------------------------------------------------------------------------

    async def cancel_job(self, project: int | str, job_id: int, *, force: bool = False) -> Job:
        """Cancel a job; a running one may pass through `canceling`. *force* needs a maintainer.

        Raises:
            ForbiddenError: The token may not do it.
            OutcomeUnknownError: Sent, without a clear answer.

        Cancellation: whether it happened is open; ask with `get_job`. So for every action below.
        GitLab: https://docs.gitlab.com/api/jobs/#cancel-a-job
        """
        return await self._api.cancel_job(project, job_id, force=force)

    async def retry_job(self, project: int | str, job_id: int) -> Job:
        """Retry a finished job; gives the new job, which has a new id.

        Raises:
            ForbiddenError: The job is not retryable.
            OutcomeUnknownError: Sent, without a clear answer; never sent again on doubt.

        GitLab: https://docs.gitlab.com/api/jobs/#retry-a-job
        """
        return await self._api.retry_job(project, job_id)

    async def erase_job(self, project: int | str, job_id: int) -> Job:
        """Erase the artifacts and the trace of a finished job.

        Raises:
            ForbiddenError: The job is not erasable.
            OutcomeUnknownError: Sent, without a clear answer.

        GitLab: https://docs.gitlab.com/api/jobs/#erase-a-job
        """
        return await self._api.erase_job(project, job_id)

    async def play_job(
        self, project: int | str, job_id: int, *, variables: Mapping[str, str] | None = None
    ) -> Job | Bridge:
        """Start a manual job, or trigger a manual bridge.

        Raises:
            ResponseError: 400 when it cannot be played.
            OutcomeUnknownError: Sent, without a clear answer.

        GitLab: https://docs.gitlab.com/api/jobs/#run-a-job
        """
        return await self._api.play_job(project, job_id, variables=variables)

    async def keep_artifacts(self, project: int | str, job_id: int) -> Job:
        """Keep a job's artifacts for ever.

        Raises:
            NotFoundError: There is no archive.

        GitLab: https://docs.gitlab.com/api/job_artifacts/#keep-job-artifacts
        """
        return await self._api.keep_artifacts(project, job_id)

    async def delete_artifacts(self, project: int | str, job_id: int) -> None:
        """Delete a job's artifacts; its trace stays.

        GitLab: https://docs.gitlab.com/api/job_artifacts/#delete-job-artifacts
        """
        await self._api.delete_artifacts(project, job_id)

    async def delete_project_artifacts(self, project: int | str) -> None:
        """Delete the artifacts of every job of a project; the server goes on with it after it answered.

        GitLab: https://docs.gitlab.com/api/job_artifacts/#delete-all-job-artifacts-in-a-project
        """
        await self._api.delete_project_artifacts(project)
