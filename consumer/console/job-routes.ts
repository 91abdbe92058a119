import { Type } from '@sinclair/typebox'
import { ProblemError } from '../../shared/http/problem.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { ACTIONS, type ActsState, Job, type JobRecord, type JobState, jobView, LetterFilter } from './acts-log.ts'
import { demandFewJobs } from './jobs.ts'
import { letterRanges, matcherOf, nativeFilter } from './letters.ts'
import { commonOf, json, MAX_LISTED, REASON, type Route, type RouteDeps, route, TENANT, WITH_REASON } from './route.ts'
import { isComplete, merged, Searched, scan } from './scan.ts'
import type { Stream } from './streams.ts'

/** Jobs: redriving, or discarding, all dead letters that a filter matches. */

const JobList = Type.Object({ jobs: Type.Array(Job) }, { title: 'Jobs' })
const Counted = Type.Object(
  {
    matches: Type.Integer({ minimum: 0, description: 'Open letters that the filter matches now.' }),
    complete: Type.Boolean(),
    searched: Type.Array(Searched),
  },
  { title: 'DryRun' },
)
const JobRequest = Type.Object(
  {
    action: oneOf(ACTIONS, { default: 'redrive', description: 'What is done to each letter.' }),
    filter: LetterFilter,
    ratePerSecond: Type.Number({
      exclusiveMinimum: 0,
      maximum: 10_000,
      default: 100,
      description: 'The most letters a second.',
    }),
    dryRun: Type.Boolean({ default: false, description: 'Only counts them.' }),
    reason: REASON,
  },
  {
    title: 'JobRequest',
    additionalProperties: false,
    examples: [{ filter: { reason: 'out of attempts' }, ratePerSecond: 100, dryRun: true }],
  },
)
export function jobRoutes(deps: RouteDeps): Route[] {
  const { readers, acts, jobs } = deps
  const { streamIn, reading } = commonOf(deps)

  return [
    route({
      method: 'post',
      path: '/v1/streams/{stream}/jobs',
      name: 'startJob',
      role: 'operate',
      summary: 'Redrive, or discard, all open dead letters that a filter matches',
      description:
        'It concerns the letters that are there now, in the order of their partitions, and goes on after a restart. `dryRun` only counts them.',
      query: Type.Object(TENANT),
      body: JobRequest,
      answers: {
        200: { description: 'Of a dry run.', schema: Counted },
        201: { description: 'The job was started.', schema: Job },
      },
      run: async (call) => {
        const stream = await streamIn(call)
        const { action, filter, ratePerSecond, dryRun, reason } = call.body
        if (action === 'discard' && (reason ?? '') === '' && !dryRun)
          throw new ProblemError({
            kind: 'invalid-body',
            detail: 'A discard needs a reason.',
            errors: [{ pointer: '/reason', detail: 'is required' }],
          })
        const ranges = await letterRanges(stream, filter, readers)
        if (dryRun) {
          const state = await acts.of(stream).current()
          const matches = matcherOf(filter)
          let count = 0
          const searched = await reading(call, (reader, budget) =>
            scan(reader, ranges, { order: 'newest', filter: nativeFilter(filter), budget }, (letter) => {
              if (matches(letter) && state.actOf(letter) === undefined) count++
            }),
          )
          return json({ matches: count, complete: isComplete(searched), searched: merged(searched) })
        }
        const id = Bun.randomUUIDv7()
        const record: JobRecord = {
          act: 'job',
          id,
          time: new Date(deps.nowMs()).toISOString(),
          by: call.by,
          ...(reason === undefined ? {} : { reason }),
          action,
          filter,
          ratePerSecond,
          from: ranges.map(({ from }) => from),
          to: ranges.map(({ to }) => to),
        }
        await acts.of(stream).perform<void>(async (state) => {
          // It may be there after a transaction whose outcome was not known.
          if (state.jobs.has(id)) return { records: [], acts: [], result: undefined }
          demandFewJobs(state)
          return { records: [], acts: [record], result: undefined }
        })
        jobs.run(stream, id)
        return json(jobView({ record, positions: record.from, acted: 0, end: undefined }), 201)
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/jobs',
      name: 'listJobs',
      role: 'read',
      summary: 'Redrives and discards by filter, newest first',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The jobs.', schema: JobList } },
      run: async (call) => {
        const stream = await streamIn(call)
        const { jobs: known } = await acts.of(stream).current()
        return json({ jobs: [...known.values()].reverse().slice(0, MAX_LISTED).map(jobView) })
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/jobs/{job}',
      name: 'getJob',
      role: 'read',
      summary: 'A job’s progress',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The job.', schema: Job } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(jobView(jobIn(stream, call.path['job'] ?? '', await acts.of(stream).current())))
      },
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/jobs/{job}/cancel',
      name: 'cancelJob',
      role: 'operate',
      summary: 'Cancel a job',
      description: 'What it has done stays done.',
      query: Type.Object(TENANT),
      body: WITH_REASON,
      answers: { 200: { description: 'The job, as it ended.', schema: Job } },
      run: async (call) => {
        const stream = await streamIn(call)
        const id = call.path['job'] ?? ''
        jobIn(stream, id, await acts.of(stream).current())
        const ended = await acts.of(stream).perform<JobState>(async (state) => {
          const job = jobIn(stream, id, state)
          if (job.end !== undefined) return { records: [], acts: [], result: job }
          const end = {
            act: 'job-end' as const,
            id: Bun.randomUUIDv7(),
            job: id,
            time: new Date(deps.nowMs()).toISOString(),
            by: call.by,
            state: 'cancelled' as const,
            ...(call.body.reason === undefined ? {} : { detail: call.body.reason }),
          }
          return { records: [], acts: [end], result: { ...job, end } }
        })
        return json(jobView(ended))
      },
    }),
  ]
}

function jobIn(stream: Stream, id: string, { jobs }: Pick<ActsState, 'jobs'>): JobState {
  const job = jobs.get(id)
  if (job === undefined)
    throw new ProblemError({ kind: 'job-not-found', detail: `The stream ${stream.name} has no job ${id}.` })
  return job
}
