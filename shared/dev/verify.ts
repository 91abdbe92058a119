/** `bun run verify`: format, lint, types, dead code and unit tests. `bun run lint --write` fixes the format. */
import { resolve } from 'node:path'
import { paint, seconds } from './progress.ts'

const root = resolve(import.meta.dir, '..', '..')

const checks = [
  { name: 'format and lint', command: ['run', 'lint'] },
  { name: 'types', command: ['x', 'tsc', '-p', '.'] },
  { name: 'dead code', command: ['x', 'knip', '--no-progress'] },
  { name: 'unit tests', command: ['shared/dev/test.ts', '--unit'] },
]

const results: { name: string; ok: boolean; elapsedMs: number }[] = []
for (const { name, command } of checks) {
  console.log(paint('bold', `\n${name}`))
  const beganMs = performance.now()
  const child = Bun.spawn([process.execPath, ...command], {
    cwd: root,
    stdin: 'ignore',
    stdout: 'inherit',
    stderr: 'inherit',
  })
  results.push({ name, ok: (await child.exited) === 0, elapsedMs: performance.now() - beganMs })
}

console.log()
for (const { name, ok, elapsedMs } of results) {
  console.log(`${ok ? 'ok    ' : paint('red', 'FAILED')}  ${name.padEnd(16)} ${seconds(elapsedMs)}`)
}
const failed = results.filter((result) => !result.ok).length
console.log(`\n${results.length - failed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
