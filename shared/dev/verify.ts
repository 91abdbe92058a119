/** `bun run verify`: all checks of a change that need no broker. */
import { resolve } from 'node:path'
import { parseCommandLine } from '../service/command-line.ts'
import { paint } from '../service/terminal.ts'
import { seconds, summarise } from './progress.ts'

const HELP = `Checks what needs no broker: bun run verify

  --no-install   install nothing; report what is missing
  --help         this text

  format and lint   by Biome, which fixes what it can; where CI is set it writes nothing
  generated files   bun run generate --check
  types             by TypeScript, of the services and of the console’s page
  dead code         by Knip
  unit tests        bun run test --unit; where CI is set, bun run test has run them

Prints "N passed, N failed" at the end, and exits with 1 when something failed.
`

parseCommandLine(HELP, {})

const root = resolve(import.meta.dir, '..', '..')

const checks = [
  { name: 'format and lint', command: ['run', 'lint', ...(process.env.CI ? [] : ['--write'])] },
  { name: 'generated files', command: ['helm/generate.ts', '--check'] },
  { name: 'types', command: ['x', 'tsc', '-p', '.'] },
  { name: 'types of the console’s page', command: ['x', 'tsc', '-p', 'consumer/console/page'] },
  { name: 'dead code', command: ['x', 'knip', '--no-progress'] },
  ...(process.env.CI ? [] : [{ name: 'unit tests', command: ['shared/dev/test.ts', '--unit'] }]),
]

const results: { title: string; ok: boolean; text: string }[] = []
for (const { name, command } of checks) {
  console.log(paint('bold', `\n${name}`))
  const beganMs = performance.now()
  const child = Bun.spawn([process.execPath, ...command], {
    cwd: root,
    stdin: 'ignore',
    stdout: 'inherit',
    stderr: 'inherit',
  })
  results.push({ title: name, ok: (await child.exited) === 0, text: seconds(performance.now() - beganMs) })
}
process.exit(summarise(results))
