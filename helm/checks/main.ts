/** `bun run check:deploy`: all checks of dependencies, images, charts, monitoring, delivery and clients that need no cluster. */
import { BrokerUnavailableError } from '../../shared/dev/brokers/broker.ts'
import { UnavailableError } from '../../shared/dev/built.ts'
import { seconds, step } from '../../shared/dev/progress.ts'
import { parseCommandLine, refuse } from '../../shared/service/command-line.ts'
import { paint } from '../../shared/service/terminal.ts'
import { charts } from './charts.ts'
import type { Check, Outcome } from './check.ts'
import { clients } from './clients.ts'
import { delivery } from './delivery.ts'
import { dependencies } from './dependencies.ts'
import { images } from './images.ts'
import { monitoring } from './monitoring.ts'

const areas = [dependencies, images, charts, monitoring, delivery, clients]

const help = `Checks dependencies, images, charts, monitoring, delivery and clients: bun run check:deploy [TEXT…] [--list]

  TEXT     only checks whose area or name contains this
  --list   the checks, a line each
  --help   this text

Tools are installed into the user's cache. Go, Python, npm, Java 17, Maven and Debian's apt-get are required.
`

interface Result extends Required<Outcome> {
  readonly check: Check
  readonly elapsedMs: number
}

async function outcomeOf(check: Check): Promise<Result> {
  const beganMs = performance.now()
  const ended = ({ passed, faults, notChecked = [] }: Outcome): Result => {
    // A check that checked nothing, and does not say why, has failed.
    const all = passed + faults.length + notChecked.length === 0 ? [`there are no ${check.counts}`] : faults
    return { check, passed, faults: all, notChecked, elapsedMs: performance.now() - beganMs }
  }
  try {
    return ended(await step(check.name, (say) => check.run(say)))
  } catch (error) {
    const isKnown = error instanceof UnavailableError || error instanceof BrokerUnavailableError
    return ended({ passed: 0, faults: [isKnown ? error.message : String((error as Error).stack ?? error)] })
  }
}

const { values, positionals } = parseCommandLine(help, {
  allowPositionals: true,
  options: { list: { type: 'boolean', default: false } },
})
const chosen = areas.flatMap(({ name, checks }) =>
  checks
    .filter((check) => positionals.length === 0 || positionals.some((text) => `${name} ${check.name}`.includes(text)))
    .map((check) => ({ area: name, check })),
)
if (values.list) {
  for (const { area, check } of chosen) console.log(`${area}: ${check.name}`)
  process.exit(0)
}
if (chosen.length === 0) refuse('no check is named by these arguments; --list names them', help)

const results: Result[] = []
for (const { check } of chosen) results.push(await outcomeOf(check))

let area = ''
for (const [index, { check, passed, faults, notChecked, elapsedMs }] of results.entries()) {
  const of = chosen[index]?.area ?? ''
  if (of !== area) console.log(paint('bold', `\n${of}`))
  area = of
  const isRight = passed > 0 ? 'ok    ' : paint('yellow', 'none  ')
  const state = faults.length === 0 ? isRight : paint('red', 'FAILED')
  console.log(
    `${state}  ${check.name.padEnd(52)} ${String(passed).padStart(5)} ${check.counts.padEnd(30)} ${seconds(elapsedMs)}`,
  )
  for (const fault of faults) console.log(`          ${fault.replaceAll('\n', '\n          ')}`)
  for (const what of notChecked) console.log(`          ${paint('yellow', 'not checked:')} ${what}`)
}
const passed = results.reduce((sum, result) => sum + result.passed, 0)
const failed = results.reduce((sum, result) => sum + result.faults.length, 0)
console.log(`\n${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
