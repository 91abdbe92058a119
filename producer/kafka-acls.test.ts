import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { YAML } from 'bun'

const run = (...args: string[]) => {
  const { stdout, stderr, exitCode } = Bun.spawnSync([
    process.execPath,
    join(import.meta.dir, 'kafka-acls.ts'),
    ...args,
  ])
  return { output: stdout.toString(), fault: stderr.toString().split('\n')[0] ?? '', exitCode }
}

test('it prints the ACLs of a role, for a principal, a group and tenants', () => {
  const { output, exitCode } = run(
    'consumer',
    '--principal',
    'User:c',
    '--group-id',
    'own',
    '--tenant',
    'shop',
    '--format',
    'rpk',
  )
  expect(exitCode).toBe(0)
  expect(output.split('\n').filter((line) => !line.startsWith('#'))).toEqual([
    'rpk security acl create --allow-principal User:c --operation read,write --resource-pattern-type prefixed --topic kt.shop.',
    'rpk security acl create --allow-principal User:c --operation read --topic kt-control',
    'rpk security acl create --allow-principal User:c --operation read --group own',
    'rpk security acl create --allow-principal User:c --operation write --resource-pattern-type prefixed --transactional-id own-',
    '',
  ])
})

test.each([
  ['kafka', []],
  ['rpk', []],
  ['strimzi', ['--cluster', 'main']],
])('in the format %s, it ends with a comment that says for which CREATE_TOPICS it is', (format, more) => {
  const args = ['--principal', 'User:p', '--format', format, ...more]
  const { output } = run('producer', ...args)
  expect(output).toEndWith('\n# For CREATE_TOPICS=off. It is on by default: that takes --create-topics.\n')
  const withTopics = run('producer', ...args, '--create-topics').output
  expect(withTopics).toEndWith('\n# For CREATE_TOPICS=on.\n')
  if (format === 'strimzi') expect(YAML.parse(withTopics)).toMatchObject({ kind: 'KafkaUser' })
  expect(run('consumer', ...args).output).not.toContain('CREATE_TOPICS')
})

test.each([
  [['consumer', '--principal', 'User:a', '--create-topics'], '--create-topics changes nothing for consumer'],
  [['console', '--principal', 'User:A', '--format', 'strimzi', '--cluster', 'main'], "a KafkaUser's principal is"],
])('%j is refused: %s', (args, says) => {
  const { output, fault, exitCode } = run(...args)
  expect({ output, exitCode }).toEqual({ output: '', exitCode: 64 })
  expect(fault).toStartWith(says)
})
