import { expect, test } from 'bun:test'
import { CODE } from './client.ts'
import { withMissingAcl } from './missing-acl.ts'

const used = { transactionalId: 'kafkatrace-c1', groupId: 'kafkatrace' }
const message = 'Broker: …: … authorization failed.'

test.each([
  [CODE.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, 'WRITE on the transactional ID kafkatrace-c1'],
  [CODE.GROUP_AUTHORIZATION_FAILED, 'READ on the group kafkatrace'],
])('a refusal says what it takes: %p', (code, what) => {
  expect(withMissingAcl({ code, message }, used)).toMatch(
    new RegExp(
      `^Broker: .* authorization failed: it takes an ACL that allows ${what}; \`bun run kafka-acls\` prints it$`,
    ),
  )
})

test('what is no refusal of these is as it was', () => {
  expect(withMissingAcl({ code: CODE.TIMED_OUT, message }, used)).toBe(message)
  expect(withMissingAcl({ message }, used)).toBe(message)
  expect(
    withMissingAcl({ code: CODE.FATAL, message: 'Broker: Transactional Id authorization failed: …' }, used),
  ).toContain('transactional ID kafkatrace-c1')
  expect(withMissingAcl({ code: CODE.GROUP_AUTHORIZATION_FAILED, message }, {})).toBe(message)
})
