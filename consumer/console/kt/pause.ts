import { only, UsageError } from '../../../shared/service/command-line.ts'
import { argumentsOf, type Command } from './command.ts'
import { statusLines } from './lag.ts'

/** Pausing a stream's processing, and going on with it. */

const help = (act: 'pause' | 'resume'): string => `${
  act === 'pause'
    ? 'Pauses a stream’s processing: consumers finish what they have begun, and begin nothing new of it, within seconds. Events are still taken in.'
    : 'Goes on with the processing of a stream that was paused.'
}

Usage: bun run kt -- ${act} STREAM ${act === 'pause' ? '--reason TEXT' : '[--reason TEXT]'}

  --reason  why; kept with the act
  --json    the status as JSON
  --help    this text

Exit code: 0; 1 when the console refused; 64 for wrong arguments; 69 when the console does not answer.
`

const command = (act: 'pause' | 'resume', usage: string, summary: string): Command => ({
  usage,
  summary,
  help: help(act),
  async run(args, io) {
    const { values, positionals } = argumentsOf(args, { reason: { type: 'string' } })
    const stream = only('STREAM', positionals)
    const { reason } = values
    if (act === 'pause' && (reason === undefined || reason === '')) throw new UsageError('--reason is missing: say why')
    const status =
      act === 'pause' ? await io.client.pause(stream, reason ?? '') : await io.client.resume(stream, reason)
    for (const line of values.json ? [JSON.stringify(status)] : statusLines(status)) io.out(line)
    return 0
  },
})

export const pause = command('pause', 'pause STREAM', 'stop processing a stream, for a reason')
export const resume = command('resume', 'resume STREAM', 'go on with it')
