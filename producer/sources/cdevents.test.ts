import { describe, expect, test } from 'bun:test'
import { gateway, SECRETS, testSigned } from '../testing/gateway.ts'

const [SECRET] = SECRETS
const DECLARED = { cd: { kind: 'cdevents', secrets: [SECRET] } }
const BEARER = { authorization: `Bearer ${SECRET}` }

const FINISHED = JSON.stringify({
  context: {
    specversion: '0.5.0',
    id: '271069a8-fc18-44f1-b38f-9d70a1695819',
    chainId: '4c8cb7dd-3448-41de-8768-eec704e2829b',
    source: '/staging/tekton/',
    type: 'dev.cdevents.pipelinerun.finished.0.3.0',
    timestamp: '2026-03-20T14:27:05.315384Z',
  },
  subject: {
    id: '/namespace/pipelinerun-123',
    source: '/staging/tekton/',
    content: { pipelineName: 'release', outcome: 'failure', uri: 'https://ci.example.com/run/123' },
  },
  customData: { build: 1 },
}).replace('"build":1', '"build":12345678901234567890')

const EVENT = {
  id: '271069a8-fc18-44f1-b38f-9d70a1695819',
  type: 'dev.cdevents.pipelinerun.finished.0.3.0',
  source: '/staging/tekton/',
  subject: '/namespace/pipelinerun-123',
  key: '/namespace/pipelinerun-123',
  time: '2026-03-20T14:27:05.315384Z',
  datacontenttype: 'application/json',
  data: FINISHED,
  form: undefined,
}

const STRUCTURED = { 'content-type': 'application/cloudevents+json; charset=UTF-8' }
const AROUND = {
  'ce-specversion': '1.0',
  'ce-id': 'A234-1234-1234',
  'ce-source': '/other/',
  'ce-type': 'dev.cdevents.other',
  'ce-subject': 'other',
  'ce-time': '2018-04-05T17:31:00Z',
}

describe('CDEvents', () => {
  testSigned({
    declare: (secrets) => ({ kind: 'cdevents', secrets }),
    body: FINISHED,
    sign: (_, secret) => ({ authorization: `Bearer ${secret}` }),
    isTimed: false,
    coversBody: false,
  })

  test('alone, in binary mode and in structured mode it is the same event', async () => {
    const { send, events } = gateway(DECLARED)
    const members = Object.fromEntries(Object.entries(AROUND).map(([name, value]) => [name.slice(3), value]))
    const envelope = `${JSON.stringify({ ...members, datacontenttype: 'application/json' }).slice(0, -1)},"data":${FINISHED}}`
    const types = { 'content-type': 'application/cdevents+json' }
    for (const [body, headers] of [
      [FINISHED, {}],
      [FINISHED, AROUND],
      [FINISHED, { ...AROUND, ...types }],
      [envelope, STRUCTURED],
    ] as const)
      expect((await send('cd', body, { ...BEARER, ...headers })).status).toBe(202)
    expect(events()).toEqual([EVENT, EVENT, EVENT, EVENT])
  })

  test('a token can be in the URL, once', async () => {
    const { send, events } = gateway(DECLARED)
    expect((await send('cd', FINISHED, AROUND, `?access_token=${SECRET}`)).status).toBe(202)
    for (const query of [`?access_token=${SECRET}&access_token=${SECRET}`, '?access_token=', '?access_token=wrong'])
      expect((await send('cd', FINISHED, AROUND, query)).status).toBe(401)
    expect((await send('cd', FINISHED, BEARER, `?access_token=${SECRET}`)).status).toBe(401)
    expect(events().length).toBe(1)
  })

  // tekton.dev, "Events in Tekton": its own CloudEvents, whose data is the run.
  test("Tekton's own CloudEvents have the attributes of the CloudEvent", async () => {
    const { send, events } = gateway(DECLARED)
    const data = '{"taskRun":{"metadata":{"name":"curl-run-6gplk","namespace":"default"}}}'
    const attributes = {
      id: '77f78ae7-ff6d-4e39-9d05-b9a0b7850527',
      source: '/apis/tekton.dev/v1beta1/namespaces/default/taskruns/curl-run-6gplk',
      type: 'dev.tekton.event.taskrun.started.v1',
      subject: 'curl-run-6gplk',
      time: '2026-01-29T14:47:57.838568Z',
    }
    const fields = Object.entries(attributes).map(([name, value]) => [`ce-${name}`, value])
    await send('cd', data, { ...BEARER, 'ce-specversion': '1.0', ...Object.fromEntries(fields) })
    await send('cd', `${JSON.stringify({ specversion: '1.0', ...attributes }).slice(0, -1)},"data":${data}}`, {
      ...BEARER,
      ...STRUCTURED,
    })
    expect(events()).toMatchObject([
      { ...attributes, data },
      { ...attributes, data },
    ])
  })

  test('other events, and an id that is a number beyond 2^53', async () => {
    const { send, events } = gateway(DECLARED)
    const event = (type: string, id: string, subject: string) =>
      `{"context":{"specversion":"0.4.1","id":${id},"source":"https://jenkins.example.com/","type":"${type}","timestamp":"2026-03-20T14:27:05Z"},"subject":{"id":"${subject}","type":"x","content":{}}}`
    await send('cd', event('dev.cdevents.service.deployed.0.1.1', '"d1"', 'shop/cart'), BEARER)
    await send('cd', event('dev.cdevents.change.merged.0.1.2', '12345678901234567890', 'c'), BEARER)
    await send('cd', event('dev.cdeventsx.jenkins-queue.left.0.1.0', '"q1"', 'q'), BEARER)
    expect(events().map(({ id, type, subject }) => [id, type, subject])).toContainAllValues([
      ['d1', 'dev.cdevents.service.deployed.0.1.1', 'shop/cart'],
      ['12345678901234567890', 'dev.cdevents.change.merged.0.1.2', 'c'],
      ['q1', 'dev.cdeventsx.jenkins-queue.left.0.1.0', 'q'],
    ])
  })

  test('a time or source that CloudEvents does not allow is left out', async () => {
    const { send, events } = gateway(DECLARED)
    const odd = FINISHED.replace('2026-03-20T14:27:05.315384Z', 'yesterday').replace('"/staging/tekton/"', '"a b"')
    expect((await send('cd', odd, BEARER)).status).toBe(202)
    expect(events()).toMatchObject([{ id: EVENT.id, source: 'urn:kafkatrace:source:cd' }])
    expect(events()[0]).not.toHaveProperty('time')
  })

  test('what is no CDEvent is refused', async () => {
    const { send, events } = gateway(DECLARED)
    const STRINGS = { specversion: '1.0', id: 'i', source: '/s', type: 't' }
    for (const [body, headers] of [
      ['', {}],
      ['', AROUND],
      ['x', AROUND],
      ['[]', {}],
      ['{}', {}],
      [`[${FINISHED}]`, { 'content-type': 'application/cloudevents-batch+json' }],
      [FINISHED.replace('"271069a8-fc18-44f1-b38f-9d70a1695819"', '{}'), {}],
      [FINISHED.replace('"dev.cdevents.pipelinerun.finished.0.3.0"', 'null'), {}],
      [FINISHED.replace('271069a8', 'x'.repeat(20_000)), {}],
      [FINISHED, STRUCTURED],
      [JSON.stringify(STRINGS), STRUCTURED],
      [JSON.stringify({ ...STRINGS, data_base64: 'e30=' }), STRUCTURED],
      [`{"id":"i","id":"i","type":"t","data":{}}`, STRUCTURED],
      ['{}', { ...AROUND, 'ce-id': 'A234, A234' }],
      ['{}', { ...AROUND, 'ce-type': '' }],
    ] as const) {
      const { status } = await send('cd', body, { ...BEARER, ...headers })
      expect(status).toBeGreaterThanOrEqual(400)
      expect(status).toBeLessThan(500)
    }
    expect(events()).toEqual([])
  })
})
