import { expect, test } from 'bun:test'
import { join } from 'node:path'

const PROGRAM = `
import { parseCommandLine } from '${join(import.meta.dir, 'command-line.ts')}'
const { values, positionals } = parseCommandLine('how to use it\\n', {
  args: process.argv.slice(1),
  allowPositionals: true,
  options: { out: { type: 'string', default: 'x' } },
})
console.log(JSON.stringify({ out: values.out, positionals }))
`

function run(...args: string[]) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, '-e', PROGRAM, '--', ...args])
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() }
}

test('options and arguments are given to the command', () => {
  expect(run('a', '--out', 'y')).toEqual({ exitCode: 0, stdout: '{"out":"y","positionals":["a"]}\n', stderr: '' })
  expect(run().stdout).toBe('{"out":"x","positionals":[]}\n')
})

test.each(['--help', '-h'])('%s prints the help to standard output and ends with 0', (option) => {
  expect(run('a', option)).toEqual({ exitCode: 0, stdout: 'how to use it\n', stderr: '' })
})

test.each([['--frob'], ['--out']])(
  '%s, which is not understood, ends with 64 and the help on standard error',
  (option) => {
    const { exitCode, stdout, stderr } = run(option)
    expect({ exitCode, stdout }).toEqual({ exitCode: 64, stdout: '' })
    expect(stderr).toContain(option)
    expect(stderr).toEndWith('\n\nhow to use it\n')
  },
)
