import { oneLine, only } from '../../../shared/service/command-line.ts'
import { UnreachableError } from '../client.ts'
import type { Outcome } from '../follow.ts'
import { argumentsOf, type Command, wordOf } from './command.ts'
import { failure, state } from './text.ts'

const HELP = `Prints outcomes as they are committed, one a line, until Ctrl-C. Each is printed once, also when the connection is cut or the console restarts meanwhile.

Usage: bun run kt -- tail STREAM [--outcome processed|dead] [--type TYPE] [--id ID] [--key KEY] [--since POSITION]

  --outcome  only these
  --type     the event's type, of a processed one the result's; a final * stands for anything
  --id       the event's id
  --key      the event's key
  --since    a position that was printed before: outcomes after it come first. Without it, those from now on
  --json     a line of JSON each, with its position
  --help     this text

At the end the position to go on at is printed to standard error.

Exit code: 0; 1 when the console refused; 64 for wrong arguments; 69 when the console does not answer at the beginning.
`

export const tail: Command = {
  usage: 'tail STREAM',
  summary: 'outcomes as they are committed',
  help: HELP,
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, {
      outcome: { type: 'string' },
      type: { type: 'string' },
      id: { type: 'string' },
      key: { type: 'string' },
      since: { type: 'string' },
    })
    const stream = only('STREAM', positionals)
    const { type, id, key, since, json } = values
    let position = since
    let isConnected = false
    try {
      const filter = { outcome: wordOf('--outcome', values.outcome, ['processed', 'dead']), type, id, key }
      for await (const followed of io.client.follow(stream, filter, {
        since,
        signal: io.signal,
        onPosition: (at) => {
          position = at
          isConnected = true
        },
        onCut: (reason, waitMs) => {
          // Before the first answer, the address may be wrong: that is no outage to wait through.
          if (!isConnected) throw new UnreachableError(reason)
          io.say(`${reason}; connecting again in ${(waitMs / 1000).toFixed(1)} s`)
        },
      }))
        io.out(
          json ? JSON.stringify({ ...followed.outcome, position: followed.position }) : outcomeLine(followed.outcome),
        )
    } finally {
      if (position !== undefined) io.say(`to go on from here: --since ${position}`)
    }
    return 0
  },
}

export function outcomeLine(outcome: Outcome): string {
  const { time, type, id, partition, offset, generation, handler, error, failedAttempts } = outcome
  const result =
    error === undefined ? (handler === undefined ? 'passed through' : `by ${oneLine(handler)}`) : failure(error)
  const redrive = generation === 0 ? '' : `  redrive ${generation}`
  const failed =
    failedAttempts === undefined ? '' : `  after ${failedAttempts} failed attempt${failedAttempts === 1 ? '' : 's'}`
  const name = `${oneLine(type ?? 'no event')}  ${oneLine(id ?? '')}`.trimEnd()
  // Words of the same width, so that columns hold.
  const word = outcome.outcome === 'dead' ? `${state('dead')}     ` : state('processed')
  return `${time}  ${word}  ${name}  ${partition}/${offset}${redrive}  ${result}${failed}`
}
