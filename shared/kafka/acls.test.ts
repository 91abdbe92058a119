import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import {
  ACL_ROLES,
  type AclOptions,
  type AclRole,
  kafkaCommands,
  type Permission,
  permissionsOf,
  rpkCommands,
  shellWord,
  singleAcls,
  strimziResource,
  strimziUser,
} from './acls.ts'

const ALL: AclOptions = { groupId: 'kafkatrace', createTopics: true, tenants: [] }
const MINIMUM: AclOptions = { groupId: 'kafkatrace', createTopics: false, tenants: [] }

const words = (role: AclRole, options: AclOptions): string[] =>
  singleAcls('User:a', permissionsOf(role, options)).map(
    ({ operation, resource, name, pattern }) => `${operation} ${resource} ${name}${pattern === 'prefixed' ? '*' : ''}`,
  )

/** The words that a POSIX shell makes of a line without variables. */
function shellSplit(line: string): string[] {
  const found: string[] = []
  for (const [word] of line.matchAll(/(?:[^\s'\\]|\\.|'[^']*')+/g))
    found.push(word.replaceAll(/'([^']*)'|\\(.)/g, (_, quoted?: string, escaped?: string) => quoted ?? escaped ?? ''))
  return found
}

describe('the table', () => {
  test('has the fewest permissions of each role', () => {
    expect(words('producer', MINIMUM)).toEqual(['write topic kt.*', 'describe configs topic kt.*'])
    expect(words('consumer', MINIMUM)).toEqual([
      'read topic kt.*',
      'write topic kt.*',
      'read topic kt-control',
      'read group kafkatrace',
      'write transactional id kafkatrace-*',
    ])
    expect(words('console', MINIMUM)).toEqual([
      'read topic kt.*',
      'write topic kt.*',
      'read topic kt-control',
      'write topic kt-control',
      'describe group kafkatrace',
      'write transactional id kafkatrace-console.*',
    ])
    expect(words('topics', MINIMUM)).toEqual([
      'create topic kt.*',
      'describe topic kt.*',
      'create topic kt-control',
      'describe topic kt-control',
    ])
  })

  test('grants creation only where a service creates topics', () => {
    const added = (role: AclRole) => words(role, ALL).filter((one) => !words(role, MINIMUM).includes(one))
    expect(added('producer')).toEqual(['create topic kt.*'])
    expect(added('console')).toEqual(['create topic kt.*', 'create topic kt-control'])
    expect(added('consumer')).toEqual([])
  })

  test('limits topics to tenants, each by its whole name', () => {
    for (const role of ACL_ROLES) {
      const of = words(role, { ...ALL, tenants: ['shop', 'bank'] }).filter((one) => one.includes('topic kt.'))
      expect(of.length).toBeGreaterThan(0)
      // `kt.shop*` would also be of the tenant shop-2.
      expect(of.filter((one) => !/topic kt\.(shop|bank)\.\*$/.test(one))).toEqual([])
    }
  })
})

describe('as commands', () => {
  test('kafka-acls.sh has one line for each permission, with what it is for', () => {
    expect(kafkaCommands('User:kafkatrace-producer', permissionsOf('producer', MINIMUM))).toBe(
      `# to store events
kafka-acls.sh --bootstrap-server "$BROKER" --command-config admin.properties --add --allow-principal User:kafkatrace-producer --operation Write --resource-pattern-type prefixed --topic kt.
# Optional: to refuse what a topic’s settings refuse before anything is sent
kafka-acls.sh --bootstrap-server "$BROKER" --command-config admin.properties --add --allow-principal User:kafkatrace-producer --operation DescribeConfigs --resource-pattern-type prefixed --topic kt.
`,
    )
  })

  test('rpk has its names of operations', () => {
    expect(rpkCommands('User:c', permissionsOf('consumer', MINIMUM))).toContain(
      'rpk security acl create --allow-principal User:c --operation read,write --resource-pattern-type prefixed --topic kt.\n',
    )
    expect(rpkCommands('User:p', permissionsOf('producer', MINIMUM))).toContain('--operation describe_configs ')
  })

  const PRINCIPALS = fc.string({ minLength: 1, unit: 'grapheme' }).filter((text) => !/\p{Cc}/u.test(text))

  test('a shell reads each word as it was', () => {
    fc.assert(fc.property(PRINCIPALS, (text) => expect(shellSplit(`a ${shellWord(text)} b`)).toEqual(['a', text, 'b'])))
  })

  test('rpk, which splits at commas, reads a principal as it was', () => {
    const permission: Permission = { resource: 'topic', name: 't', pattern: 'literal', operations: ['read'], why: '' }
    fc.assert(
      fc.property(PRINCIPALS, (name) => {
        const [, line = ''] = rpkCommands(`User:${name}`, [permission]).split('\n')
        const word = shellSplit(line)[5] ?? ''
        const read = word.startsWith('"') ? word.slice(1, -1).replaceAll('""', '"') : word
        expect(read).toBe(`User:${name}`)
        expect(word.startsWith('"') || !word.includes(',')).toBe(true)
      }),
    )
  })
})

describe('as a KafkaUser', () => {
  const of = (principal: string, role: AclRole, options: AclOptions) =>
    Bun.YAML.parse(strimziResource(principal, 'main', permissionsOf(role, options))) as object

  test('is what Strimzi takes', () => {
    expect(of('User:CN=kafkatrace-console', 'console', MINIMUM)).toEqual({
      apiVersion: 'kafka.strimzi.io/v1',
      kind: 'KafkaUser',
      metadata: { name: 'kafkatrace-console', labels: { 'strimzi.io/cluster': 'main' } },
      spec: {
        authentication: { type: 'tls' },
        authorization: {
          type: 'simple',
          acls: [
            {
              resource: { type: 'topic', name: 'kt.', patternType: 'prefix' },
              operations: ['Read', 'Write'],
            },
            {
              resource: { type: 'topic', name: 'kt-control', patternType: 'literal' },
              operations: ['Read', 'Write'],
            },
            { resource: { type: 'group', name: 'kafkatrace', patternType: 'literal' }, operations: ['Describe'] },
            {
              resource: { type: 'transactionalId', name: 'kafkatrace-console.', patternType: 'prefix' },
              operations: ['Write'],
            },
          ],
        },
      },
    })
  })

  test('keeps a name that YAML would read as something else', () => {
    for (const groupId of ['true', '1.0', 'null', '-', '0x1'])
      expect(of('User:a', 'consumer', { ...MINIMUM, groupId })).toMatchObject({
        spec: {
          authorization: { acls: [{}, {}, { resource: { name: groupId } }, { resource: { name: `${groupId}-` } }] },
        },
      })
  })

  test('is of a principal that Strimzi can make, and of no other', () => {
    expect(strimziUser('User:shop.producer')).toEqual({ name: 'shop.producer', authentication: 'scram-sha-512' })
    for (const principal of ['User:CN=a,O=b', 'User:A', 'Group:a', 'User:', `User:${'a'.repeat(254)}`, 'User:a.'])
      expect(strimziUser(principal)).toBeUndefined()
  })
})
