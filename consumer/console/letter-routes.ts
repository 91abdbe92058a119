import { type Static, Type } from '@sinclair/typebox'
import { ProblemError } from '../../shared/http/problem.ts'
import { oneOf } from '../../shared/service/one-of.ts'
import { type Action, Edit, LetterAct } from './acts-log.ts'
import { actOnOne } from './jobs.ts'
import { groupLetters, Letter, LetterGroups, stateOf } from './letters.ts'
import { LETTER_STATES, type LetterState } from './names.ts'
import { recordAt } from './record-at.ts'
import {
  type Call,
  commonOf,
  DEMANDED_REASON,
  FORMAT,
  filterIn,
  json,
  LETTER_FILTER,
  MAX_DATA_BYTES,
  REASON,
  type Route,
  type RouteDeps,
  route,
  showing,
  TENANT,
} from './route.ts'
import { callerOf } from './shares.ts'
import { type Stream, topicOf } from './streams.ts'
import { viewOf } from './view.ts'

/** Dead letters: counted, one in full, and acting on one. */

const Acted = Type.Object(
  { done: Type.Boolean({ description: 'false: it was acted on before; `act` says how.' }), act: LetterAct },
  { title: 'Acted' },
)

export function letterRoutes(deps: RouteDeps): Route[] {
  const { readers, acts, jobsDeps } = deps
  const { streamIn, reading } = commonOf(deps)

  /** @throws ProblemError when it is no letter */
  async function letterIn(stream: Stream, call: Pick<Call, 'path' | 'request' | 'tenant' | 'everything'>) {
    const { path } = call
    const partition = Number(path['partition'])
    const offset = Number(path['offset'])
    const isPlace = /^\d{1,9}$/.test(path['partition'] ?? '') && /^\d{1,15}$/.test(path['offset'] ?? '')
    const letter =
      isPlace && partition < stream.partitions
        ? await reading(call, (reader, budget) =>
            recordAt({ topic: topicOf(stream, 'dlq'), partition }, offset, reader, budget, readers),
          )
        : undefined
    if (letter === undefined)
      throw new ProblemError({
        kind: 'letter-not-found',
        detail: `There is no dead letter at ${topicOf(stream, 'dlq')}/${path['partition']}/${path['offset']}: it may have been deleted by retention.`,
      })
    return letter
  }

  async function actOnLetter(
    action: Action,
    call: Pick<Call, 'request' | 'tenant' | 'everything' | 'path' | 'by'>,
    reason: string | undefined,
    edit?: Static<typeof Edit>,
  ) {
    const stream = await streamIn(call)
    const letter = await letterIn(stream, call)
    const acted = await actOnOne(
      action,
      stream,
      letter,
      { by: call.by, reason, caller: callerOf(call) },
      edit,
      jobsDeps,
    )
    return json(acted, acted.done ? 201 : 200)
  }

  return [
    route({
      method: 'get',
      path: '/v1/streams/{stream}/dead-letters',
      name: 'groupDeadLetters',
      role: 'read',
      summary: 'Dead letters, counted by reason, type, handler and state',
      query: Type.Object({
        ...LETTER_FILTER,
        state: oneOf([...LETTER_STATES, 'all'], {
          default: 'open',
          description: 'Which: open ones are those that nothing was done to.',
        }),
        ...TENANT,
      }),
      answers: { 200: { description: 'The groups.', schema: LetterGroups } },
      run: async (call) => {
        const stream = await streamIn(call)
        const { state } = call.query
        const states: readonly LetterState[] = state === 'all' ? LETTER_STATES : [state as LetterState]
        const acted = await acts.of(stream).current()
        return json(
          await reading(call, (reader, budget) =>
            groupLetters(stream, filterIn(call.query), states, acted, reader, budget, readers),
          ),
        )
      },
    }),
    route({
      method: 'get',
      path: '/v1/streams/{stream}/dead-letters/{partition}/{offset}',
      name: 'getDeadLetter',
      role: 'read',
      summary: 'One dead letter in full',
      query: Type.Object({ ...FORMAT, ...TENANT }),
      answers: { 200: { description: 'The letter.', schema: Letter } },
      run: async (call) => {
        const stream = await streamIn(call)
        const letter = await letterIn(stream, call)
        const act = (await acts.of(stream).current()).actOf(letter)
        return json({
          state: stateOf(act),
          ...(act === undefined ? {} : { act }),
          letter: viewOf(letter, showing(stream, call.query.format, MAX_DATA_BYTES)),
        })
      },
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/dead-letters/{partition}/{offset}/redrive',
      name: 'redriveDeadLetter',
      role: 'operate',
      summary: 'Send a dead letter’s event through its stream once more',
      description:
        'It is the same event, as its next generation. A letter is acted on once, however often this is called.',
      query: Type.Object(TENANT),
      body: Type.Object(
        { reason: REASON, edit: Type.Optional(Edit) },
        {
          additionalProperties: false,
          examples: [{ reason: 'the total was text', edit: { patch: [{ op: 'replace', path: '/total', value: 10 }] } }],
        },
      ),
      answers: {
        200: { description: 'It was acted on before.', schema: Acted },
        201: { description: 'It was redriven.', schema: Acted },
      },
      run: (call) => actOnLetter('redrive', call, call.body.reason, call.body.edit),
    }),
    route({
      method: 'post',
      path: '/v1/streams/{stream}/dead-letters/{partition}/{offset}/discard',
      name: 'discardDeadLetter',
      role: 'operate',
      summary: 'Note that a dead letter needs nothing more',
      description: 'The letter stays in .dlq as long as retention keeps it.',
      query: Type.Object(TENANT),
      body: DEMANDED_REASON,
      answers: {
        200: { description: 'It was acted on before.', schema: Acted },
        201: { description: 'It was discarded.', schema: Acted },
      },
      run: (call) => actOnLetter('discard', call, call.body.reason),
    }),
  ]
}
