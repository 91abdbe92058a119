import { describe, expect, test } from 'bun:test'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'

const [SECRET] = SECRETS
const DECLARED = { am: { kind: 'alertmanager', secrets: [SECRET] } }
const BEARER = { authorization: `Bearer ${SECRET}` }
const GROUP = '{}/{severity="critical"}:{alertname="ProbeFailure"}'
const NEVER = '0001-01-01T00:00:00Z'

const alert = (instance: string, status: string, startsAt: string, endsAt = NEVER) => ({
  status,
  labels: { alertname: 'ProbeFailure', instance, severity: 'critical' },
  annotations: { summary: `${instance} does not answer` },
  startsAt,
  endsAt,
  generatorURL: 'http://prometheus.example.org:9090/graph?g0.expr=probe_success+%3D%3D+0&g0.tab=1',
  fingerprint: '1a30ba71cca2921f',
})
const notification = (status: string, alerts: readonly unknown[], more: object = {}): string =>
  // Go's encoder ends with a line feed.
  `${JSON.stringify({
    receiver: 'kafkatrace',
    status,
    alerts,
    groupLabels: { alertname: 'ProbeFailure' },
    commonLabels: { alertname: 'ProbeFailure', severity: 'critical' },
    commonAnnotations: {},
    externalURL: 'http://alertmanager.example.org:9093',
    version: '4',
    groupKey: GROUP,
    truncatedAlerts: 0,
    ...more,
  })}\n`

const STARTED = '2026-03-01T10:03:30.123456789Z'
const FIRING = notification('firing', [
  alert('a', 'firing', STARTED),
  alert('b', 'firing', '2026-03-01T12:03:50+02:00'),
])
const at = (time: string): number => Date.parse(`2026-03-01T${time}Z`)

describe('Alertmanager', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'alertmanager', secrets }),
    body: FIRING,
    sign: (_, secret) => ({ authorization: `Bearer ${secret}` }),
    isTimed: false,
    coversBody: false,
  })

  test('the password of basic_auth is the secret, whoever the user is, and so is access_token', async () => {
    const { send, events } = gateway(DECLARED)
    const basic = (text: string) => ({ authorization: `Basic ${Buffer.from(text).toString('base64')}` })
    expect((await send('am', FIRING, basic(`alertmanager:${SECRET}`))).status).toBe(202)
    expect((await send('am', FIRING, {}, `?access_token=${SECRET}`)).status).toBe(202)
    expect(events().length).toBe(2)
    for (const [headers, query] of [
      [basic(`${SECRET}:`), ''],
      [basic(SECRET), ''],
      [{ authorization: SECRET }, ''],
      [{ authorization: `${BEARER.authorization}, ${BEARER.authorization}` }, ''],
      [{ authorization: '' }, ''],
      [BEARER, `?access_token=${SECRET}`],
      [{}, `?access_token=${SECRET}&access_token=${SECRET}`],
      [{}, `?access_token=${SECRET}&access_token=`],
      [{}, '?access_token='],
    ] as const)
      expect((await send('am', FIRING, headers, query)).status).toBe(401)
    expect(events().length).toBe(2)
  })

  test('a notification is one event, byte for byte, at the time of its newest alert', async () => {
    const { send, events } = gateway(DECLARED)
    expect((await send('am', FIRING, BEARER)).status).toBe(202)
    expect(events()).toEqual([
      {
        id: expect.stringMatching(/^[0-9a-f]{64}-\d+$/),
        type: 'io.prometheus.alertmanager.firing',
        source: 'http://alertmanager.example.org:9093',
        subject: GROUP,
        key: GROUP,
        time: '2026-03-01T12:03:50+02:00',
        datacontenttype: 'application/json',
        data: FIRING,
        form: undefined,
      },
    ])
  })

  test('that all is resolved happened when the last alert ended', async () => {
    const { send, events } = gateway(DECLARED)
    const resolved = notification('resolved', [
      alert('a', 'resolved', STARTED, '2026-03-01T11:30:00Z'),
      alert('b', 'resolved', '2026-03-01T10:03:50Z', '2026-03-01T11:05:00Z'),
    ])
    expect((await send('am', resolved, BEARER)).status).toBe(202)
    expect(events()).toMatchObject([{ type: 'io.prometheus.alertmanager.resolved', time: '2026-03-01T11:30:00Z' }])
  })

  test('Grafana has the same shape, and what it has besides stays as it is', async () => {
    const { send, events } = gateway(DECLARED)
    const grafana = notification('firing', [alert('a', 'firing', '2026-03-01T11:51:03.157076+02:00')], {
      version: '1',
      orgId: 1,
      title: '[FIRING:1] ProbeFailure',
      state: 'alerting',
      message: '**Firing**',
      externalURL: 'https://play.grafana.org/',
    }).replace('"orgId":1', '"orgId":12345678901234567890')
    expect((await send('am', grafana, BEARER)).status).toBe(202)
    expect(events()).toMatchObject([
      { source: 'https://play.grafana.org/', time: '2026-03-01T11:51:03.157076+02:00', data: grafana },
    ])
  })

  test('what is sent again within a group_interval has the same id, and what is repeated after it another one', async () => {
    const { send, events, clock } = gateway(DECLARED)
    // Sent after group_wait, tried again, and repeated once and again.
    for (const time of ['10:04:01', '10:04:10', '10:08:20', '14:04:01', '14:04:15', '18:04:01']) {
      clock.nowMs = at(time)
      expect((await send('am', FIRING, BEARER)).status).toBe(202)
    }
    const [first, again, late, repeated, repeatedAgain, last] = events().map(({ id }) => id)
    expect([again, late]).toEqual([first, first])
    expect(repeatedAgain).toBe(repeated)
    expect(new Set([first, repeated, last]).size).toBe(3)
  })

  test('the intervals are those of the declaration', async () => {
    const { send, events, clock } = gateway({ am: { ...DECLARED.am, groupIntervalSeconds: 60 } })
    for (const time of ['10:04:01', '10:04:29', '10:04:31']) {
      clock.nowMs = at(time)
      await send('am', FIRING, BEARER)
    }
    const [first, again, repeated] = events().map(({ id }) => id)
    expect([again === first, repeated === first]).toEqual([true, false])
  })

  test('another notification of the group has another id at the same time', async () => {
    const { send, events } = gateway(DECLARED)
    const more = notification('firing', [alert('a', 'firing', STARTED), alert('c', 'firing', STARTED)])
    for (const body of [FIRING, more]) await send('am', body, BEARER)
    expect(new Set(events().map(({ id }) => id)).size).toBe(2)
  })

  test('alerts without a time, or none, leave it out', async () => {
    for (const alerts of [[], [{ startsAt: 7 }, 7, null, { startsAt: 'today' }]]) {
      const { send, events } = gateway(DECLARED)
      expect((await send('am', notification('firing', alerts), BEARER)).status).toBe(202)
      expect(events()[0]).not.toHaveProperty('time')
    }
  })

  test('what is no notification is refused', async () => {
    const { send, events } = gateway(DECLARED)
    for (const body of [
      '',
      'x',
      'null',
      '[]',
      '{}',
      '{"status":"firing"',
      '{"text":"a payload of its own"}',
      notification('suppressed', []),
      FIRING.replace('"status":"firing"', '"status":["firing"]'),
      `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
      `{"status":"firing","alerts":${JSON.stringify(Array.from({ length: 60_000 }, () => ({})))},"x":"${'x'.repeat(900_000)}"}`,
    ]) {
      const { status } = await send('am', body, BEARER)
      expect(status).toBeGreaterThanOrEqual(400)
      expect(status).toBeLessThan(500)
    }
    expect(events()).toEqual([])
  })
})
