import { type Static, Type } from '@sinclair/typebox'
import { encodeControl } from '../../shared/events/control.ts'
import { ProblemError } from '../../shared/http/problem.ts'
import { ROLES } from '../../shared/http/tenants.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { Histories, History, MAX_MINUTES } from './history.ts'
import {
  type Answer,
  askingOf,
  type Call,
  commonOf,
  DEMANDED_REASON,
  json,
  MAX_LISTED,
  type Route,
  type RouteDeps,
  route,
  TENANT,
  WITH_REASON,
  whole,
} from './route.ts'
import { callerOf } from './shares.ts'
import { StreamStatus } from './status.ts'

/** Streams: which there are, how they stand, pausing them, and who did what. */

const StreamList = Type.Object(
  { streams: Type.Array(Type.Object({ tenant: Type.String(), stream: Type.String() })) },
  { title: 'Streams' },
)
const Access = Type.Object(
  {
    auth: oneOf(['on', 'off'], { description: 'off: no key is needed.' }),
    by: Type.String({
      description: 'How acts name who acts: the key’s id, or “jwt:”, the subject of the token, and the name.',
    }),
    name: Type.Optional(Type.String({ description: 'As people call the key, or whoever has logged in.' })),
    isLoggedIn: Type.Boolean({ description: 'By a session of this browser, and not by a key.' }),
    roles: Type.Array(oneOf(ROLES)),
    sends: Type.Boolean({ description: 'Whether events can be sent through the console.' }),
    traceUrl: Type.Optional(Type.String({ description: 'Where a trace is shown; {traceId} stands for its id.' })),
    tenants: Type.Array(
      Type.Object({ name: Type.String(), enabled: Type.Boolean(), streams: Type.Array(Type.String()) }),
      {
        description:
          'What the key is for. Operators of all tenants name one in their requests, unless there is only one.',
      },
    ),
  },
  { title: 'Access' },
)
export type Access = Static<typeof Access>

const ActList = Type.Object(
  {
    acts: Type.Array(Type.Unknown({ description: 'As they were recorded.' }), { description: 'Newest first.' }),
    complete: Type.Boolean(),
  },
  { title: 'Acts' },
)

export function streamRoutes(deps: RouteDeps): Route[] {
  const { acts, statuses } = deps
  const { streamIn, withBudget, reading } = commonOf(deps)
  const histories = new Histories(deps.readers)

  async function control(
    call: Pick<Call, 'tenant' | 'everything' | 'path' | 'by'>,
    act: 'pause' | 'resume',
    reason: string | undefined,
  ): Promise<Answer> {
    const stream = await streamIn(call)
    const { by } = call
    const nowMs = deps.nowMs()
    const record = {
      act,
      id: Bun.randomUUIDv7(),
      time: new Date(nowMs).toISOString(),
      by,
      ...(reason === undefined ? {} : { reason }),
    }
    await acts.of(stream).perform<void>(async () => ({
      records: [
        encodeControl(stream.tenant, stream.name, {
          state: act === 'pause' ? 'paused' : 'running',
          by,
          atMs: nowMs,
          reason: reason ?? '',
        }),
      ],
      acts: [record],
      result: undefined,
    }))
    try {
      return json(await statuses.of(stream, act === 'pause' ? record : undefined, callerOf(call)))
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error
      const { detail, ...problem } = error.problem
      throw new ProblemError({
        ...problem,
        detail: `The stream is ${act === 'pause' ? 'paused' : 'resumed'}, and its status cannot be read: ${detail}`,
      })
    }
  }

  return [
    route({
      method: 'get',
      path: '/v1/access',
      name: 'getAccess',
      role: 'any',
      summary: 'What the key may do, and with which streams',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The key’s roles, tenants and streams.', schema: Access } },
      run: async ({ by, name, isLoggedIn, roles, everything }) =>
        json({
          auth: deps.config.AUTH === 'off' ? 'off' : 'on',
          by,
          ...(name === undefined ? {} : { name }),
          isLoggedIn,
          roles: [...roles],
          sends: deps.config.PRODUCER_URL !== undefined,
          ...(deps.config.TRACE_URL === undefined ? {} : { traceUrl: deps.config.TRACE_URL }),
          tenants: everything().map(({ tenant: { name, enabled }, streams }) => ({
            name,
            enabled,
            streams: [...streams],
          })),
        }),
    }),
    route({
      method: 'get',
      path: '/v1/streams',
      name: 'listStreams',
      role: 'read',
      summary: 'The streams that the key may read',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The streams.', schema: StreamList } },
      run: async ({ tenant, streams }) =>
        json({ streams: [...streams].map((stream) => ({ tenant: tenant.name, stream })) }),
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/status',
      name: 'getStatus',
      role: 'read',
      summary: 'Lag, rates, and which consumer has which partition',
      query: Type.Object(TENANT),
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(await statuses.of(stream, (await acts.of(stream).current()).paused, callerOf(call)))
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/history',
      name: 'getHistory',
      role: 'read',
      summary: 'What came in and what became of it, minute by minute',
      query: Type.Object({ minutes: whole(1, MAX_MINUTES, 'As many minutes, up to now.', 60), ...TENANT }),
      answers: { 200: { description: 'The minutes.', schema: History } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(
          await withBudget(askingOf(call), (budget) => histories.of(stream, call.query.minutes, deps.nowMs(), budget)),
        )
      },
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/pause',
      name: 'pauseStream',
      role: 'operate',
      summary: 'Pause the stream’s processing',
      description:
        'Consumers finish what they have begun, and begin nothing new of it, within seconds. Events are still taken in.',
      query: Type.Object(TENANT),
      body: DEMANDED_REASON,
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: (call) => control(call, 'pause', call.body.reason),
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/resume',
      name: 'resumeStream',
      role: 'operate',
      summary: 'Go on with the stream’s processing',
      query: Type.Object(TENANT),
      body: WITH_REASON,
      answers: { 200: { description: 'The status.', schema: StreamStatus } },
      run: (call) => control(call, 'resume', call.body.reason),
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/acts',
      name: 'listActs',
      role: 'read',
      summary: 'Who did what to the stream and its dead letters, newest first',
      query: Type.Object({ limit: whole(1, MAX_LISTED, 'The most acts.', 50), ...TENANT }),
      answers: { 200: { description: 'The acts.', schema: ActList } },
      run: async (call) => {
        const stream = await streamIn(call)
        return json(
          await reading(call, (reader, budget) =>
            acts.of(stream).list(call.query.limit, stream.redact, reader, budget),
          ),
        )
      },
    }),
  ]
}
