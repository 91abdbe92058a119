import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { ACL_ROLES, permissionsOf } from '../shared/kafka/acls.ts'
import { commandsMarkdown, permissionsMarkdown } from './acl-reference.ts'
import { root } from './checks/check.ts'
import { withMarked } from './marked.ts'

const OPTIONS = { groupId: 'kafkatrace', createTopics: true, tenants: [] }
const ALL = ACL_ROLES.flatMap((role) => permissionsOf(role, OPTIONS))

test('every permission is a row of the table and a command', () => {
  const rows = permissionsMarkdown().trim().split('\n').slice(2)
  expect(rows).toHaveLength(ALL.length)
  expect(rows).toContain('| consumer | transactional id `GROUP_ID-` (prefixed) | WRITE | to write in transactions |')
  expect(commandsMarkdown().match(/^kafka-acls\.sh /gm)).toHaveLength(ALL.length)
})

test('both pages have the marks, and each once', async () => {
  for (const [page, name] of [
    ['docs/security.md', 'permissions'],
    ['docs/operations.md', 'acls'],
  ] as const) {
    const text = await Bun.file(join(root, page)).text()
    expect(text.split(`<!-- ${name}: begin`)).toHaveLength(2)
    expect(withMarked(text, name, 'the new text', page)).toContain('the new text')
  }
  expect(() => withMarked('nothing', 'acls', '', 'a page')).toThrow('a page lacks the marks')
})
