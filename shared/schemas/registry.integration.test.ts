import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { findFreePorts, releasePorts } from '../dev/brokers/ports.ts'
import { startRegistry, type TestRegistry } from '../testing/registry.ts'
import { createRegistry, RegistryError } from './registry.ts'

/** Apicurio knows JSON Schema by `properties` or `$schema`. */
const TEXT = '{"type":"object","required":["total"],"properties":{"total":{"type":"number"}}}'
const QUICK = { attemptMs: 700, callMs: 2_000 }
const START_TIMEOUT_MS = 900_000

async function fault(asked: Promise<unknown>): Promise<RegistryError> {
  const thrown = await asked.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (thrown instanceof RegistryError) return thrown
  throw new Error(`no fault of a registry: ${String(thrown)}`)
}

describe('a real registry', () => {
  let real: TestRegistry
  beforeAll(async () => {
    real = await startRegistry()
  }, START_TIMEOUT_MS)
  afterAll(() => real.stop())
  const client = () => createRegistry({ SCHEMA_REGISTRY_URL: real.url })

  test('versions are registered, listed and read', async () => {
    const subject = 'acme.orders-order.placed'
    const registry = client()
    expect(await registry.versions(subject)).toEqual([])
    expect(await registry.register(subject, TEXT)).toBe(1)
    expect(await registry.register(subject, TEXT)).toBe(1)
    expect(await registry.register(subject, TEXT.replace('"number"', '["number","null"]'))).toBe(2)
    expect(await registry.versions(subject)).toEqual([1, 2])
    expect(await registry.subjects()).toContain(subject)
    const first = await registry.schemaOf(subject, 1)
    expect(first).toMatchObject({ ok: true, version: 1 })
    expect(first.ok && JSON.parse(first.text)).toEqual(JSON.parse(TEXT))
    expect(await registry.schemaOf(subject, 'latest')).toMatchObject({ ok: true, version: 2 })
    expect(await registry.schemaOf(subject, 3)).toEqual({ ok: false, fault: `${subject} has no version 3` })
    expect(await registry.schemaOf('none', 'latest')).toEqual({ ok: false, fault: 'none has no version' })
  })

  test.each(['a b', 'ü', 'a%b', 'a?b=c&d', 'a#b'])('%s is a subject', async (subject) => {
    const registry = client()
    expect(await registry.register(subject, TEXT)).toBe(1)
    expect(await registry.versions(subject)).toEqual([1])
    expect(await registry.schemaOf(subject, 1)).toMatchObject({ ok: true })
  })

  test('a version is read as it is now: nothing is kept', async () => {
    const registry = client()
    await registry.register('changing', TEXT)
    expect(await registry.schemaOf('changing', 'latest')).toMatchObject({ version: 1 })
    await real.register('changing', { type: 'object', properties: {} })
    expect(await registry.schemaOf('changing', 'latest')).toMatchObject({ version: 2 })
  })

  test('the level is that of the subject, else that of the registry', async () => {
    const registry = client()
    await registry.register('levelled', TEXT)
    await registry.register('unlevelled', TEXT)
    await real.setCompatibility('FULL_TRANSITIVE', 'levelled')
    expect(await registry.compatibilityOf('levelled')).toBe('FULL_TRANSITIVE')
    await real.setCompatibility('FORWARD')
    expect(await registry.compatibilityOf('unlevelled')).toBe('FORWARD')
    expect(await registry.compatibilityOf('not-there')).toBe('FORWARD')
    expect(await registry.compatibilityOf('levelled')).toBe('FULL_TRANSITIVE')
    await real.setCompatibility('NONE')
  })

  test('what the registry refuses is said in its words', async () => {
    const registry = client()
    await registry.register('strict', '{"type":"object","properties":{}}')
    await real.setCompatibility('BACKWARD', 'strict')
    const refused = await fault(registry.register('strict', TEXT))
    expect(refused.message).toContain('refused to register a version of strict (409): ')
    expect(refused.mayPass).toBe(false)
  })

  test('another type of schema, and one that refers to other subjects, are refused by name', async () => {
    await real.registerAs('avro', { schemaType: 'AVRO', schema: '"string"' })
    expect(await client().schemaOf('avro', 1)).toEqual({
      ok: false,
      fault: 'version 1 of avro is of type AVRO, and not JSON',
    })
    await real.register('part', { $schema: 'http://json-schema.org/draft-07/schema#', type: 'string' })
    const references = [{ name: 'part.json', subject: 'part', version: 1 }]
    await real.registerAs('whole', {
      schemaType: 'JSON',
      schema: '{"properties":{"a":{"$ref":"part.json"}}}',
      references,
    })
    expect(await client().schemaOf('whole', 1)).toEqual({
      ok: false,
      fault: 'version 1 of whole refers to the subject part: a schema must be whole, with its parts in $defs',
    })
  })

  test('several addresses are tried in turn, until one answers', async () => {
    const [away = 0] = await findFreePorts(1)
    const nothing = `http://127.0.0.1:${away}`
    try {
      const registry = createRegistry({ SCHEMA_REGISTRY_URL: `${nothing},${real.url}` })
      expect(await registry.subjects()).toBeArray()
      // That a subject is not there is an answer.
      const other = createRegistry({ SCHEMA_REGISTRY_URL: `${real.url},${nothing}` })
      expect(await other.versions('not-there')).toEqual([])
      const neither = createRegistry({ SCHEMA_REGISTRY_URL: `${nothing}/a,${nothing}/b/` })
      expect(await fault(neither.subjects())).toMatchObject({
        mayPass: true,
        message: `${nothing}/b cannot be reached: nothing listens there`,
      })
    } finally {
      releasePorts([away])
    }
  })

  test('killed, it is away; frozen, it does not answer; both pass', async () => {
    const registry = client()
    await registry.register('kept', TEXT)
    real.freeze()
    const frozen = await fault(createRegistry({ SCHEMA_REGISTRY_URL: real.url }, QUICK).subjects())
    real.thaw()
    expect(frozen.message).toBe(`${real.url} cannot be reached: no answer within ${QUICK.attemptMs} ms`)
    expect(frozen.mayPass).toBe(true)
    expect(await registry.versions('kept')).toEqual([1])
    await real.kill()
    const killed = await fault(registry.subjects())
    expect(killed.message).toBe(`${real.url} cannot be reached: nothing listens there`)
    expect(killed.mayPass).toBe(true)
    await real.restart()
    // It forgets; the client must not remember for it.
    expect(await registry.versions('kept')).toEqual([])
    expect(await registry.register('kept', TEXT)).toBe(1)
  }, 180_000)
})

/** A server that stands in for a registry that no real one can be made to be. */
describe('a stand-in', () => {
  const servers: { stop(force: boolean): unknown }[] = []
  afterAll(() => {
    for (const server of servers) server.stop(true)
  })
  const serve = (answer: (request: Request) => Response | Promise<Response>): string => {
    const server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: answer })
    servers.push(server)
    return `http://127.0.0.1:${server.port}`
  }
  const registry = (url: string, more: object = {}) => createRegistry({ SCHEMA_REGISTRY_URL: url, ...more })
  const quick = (url: string) => createRegistry({ SCHEMA_REGISTRY_URL: url }, QUICK)

  test('that asks for credentials gets them, and only in the header', async () => {
    const seen: (string | null)[] = []
    const url = serve((request) => {
      seen.push(request.headers.get('authorization'))
      return Response.json([])
    })
    await registry(url).subjects()
    await registry(url, { SCHEMA_REGISTRY_USERNAME: 'u', SCHEMA_REGISTRY_PASSWORD: 'pä:ss' }).subjects()
    await registry(url, { SCHEMA_REGISTRY_TOKEN: 't0ken' }).subjects()
    expect(seen).toEqual([null, `Basic ${Buffer.from('u:pä:ss').toString('base64')}`, 'Bearer t0ken'])
  })

  test('that refuses them is named without them', async () => {
    for (const [status, told] of [
      [401, 'does not accept the credentials (401)'],
      [403, 'does not allow these credentials to list its subjects (403)'],
    ] as const) {
      const url = serve(() => new Response('<h1>no</h1>', { status }))
      const refused = await fault(
        registry(url, { SCHEMA_REGISTRY_USERNAME: 'someone', SCHEMA_REGISTRY_PASSWORD: 'hunter2' }).subjects(),
      )
      expect(refused.message).toContain(told)
      expect(refused.message).not.toMatch(/hunter2|someone/)
      expect(refused).toMatchObject({ mayPass: false, status })
    }
  })

  test('that answers with a page is no registry', async () => {
    const url = serve(() => new Response('<!doctype html>', { headers: { 'content-type': 'text/html' } }))
    const answers: Promise<unknown>[] = [
      registry(url).subjects(),
      registry(url).versions('a'),
      registry(url).schemaOf('a', 1),
      registry(url).register('a', TEXT),
      registry(url).compatibilityOf('a'),
    ]
    for (const answer of answers) {
      const refused = await fault(answer)
      expect(refused.message).toMatch(
        /did not answer as a schema registry does when asked to .*: is the address right\?/,
      )
      expect(refused.mayPass).toBe(false)
    }
  })

  test('that knows no such page is no registry without subjects', async () => {
    const url = serve(() => new Response('<h1>Not Found</h1>', { status: 404 }))
    const refused = await fault(registry(url).versions('a'))
    expect(refused.status).toBe(404)
    expect(refused.message).toContain('is its path missing, such as /apis/ccompat/v7 of Apicurio’s?')
    expect((await fault(registry(url).schemaOf('a', 1))).status).toBe(404)
  })

  test('that is overloaded may answer later, and is asked twice', async () => {
    let asked = 0
    const url = serve(() => {
      asked++
      return asked < 2 ? new Response('later', { status: 503 }) : Response.json(['a'])
    })
    expect(await registry(url).subjects()).toEqual(['a'])
    const always = serve(() => Response.json({ error_code: 50003, message: 'leader unknown' }, { status: 500 }))
    const refused = await fault(registry(always).subjects())
    expect(refused.message).toContain('refused to list its subjects (500): leader unknown')
    expect(refused.mayPass).toBe(true)
  })

  test('that sends more than is taken, or without end, is cut off', async () => {
    const long = serve(() => Response.json(['x'.repeat(9 * 1024 * 1024)]))
    expect((await fault(registry(long).subjects())).message).toContain('has more than 8388608 bytes')
    const endless = serve(
      () =>
        new Response(
          new ReadableStream({
            async pull(controller) {
              await Bun.sleep(50)
              controller.enqueue(new TextEncoder().encode(' '))
            },
          }),
        ),
    )
    expect((await fault(quick(endless).subjects())).message).toContain(`no answer within ${QUICK.callMs} ms`)
  })

  test('that hangs is asked again only when the one that answered last does not', async () => {
    const asked = { hanging: 0, other: 0 }
    let isHanging = true
    const hanging = serve(() => {
      asked.hanging++
      return isHanging ? new Promise<Response>(() => {}) : Response.json([])
    })
    let otherStatus = 200
    const other = serve(() => {
      asked.other++
      return Response.json([1], { status: otherStatus })
    })
    const both = quick(`${hanging},${other}`)
    for (let count = 0; count < 3; count++) expect(await both.versions('a')).toEqual([1])
    expect(asked).toEqual({ hanging: 1, other: 3 })
    isHanging = false
    otherStatus = 503
    for (let count = 0; count < 3; count++) expect(await both.versions('a')).toEqual([])
    expect(asked).toEqual({ hanging: 4, other: 4 })
    // One that refuses does not become the first.
    isHanging = true
    otherStatus = 403
    expect((await fault(both.versions('a'))).status).toBe(403)
    isHanging = false
    expect(await both.versions('a')).toEqual([])
  })

  test('that redirects does not get the credentials taken elsewhere', async () => {
    let came = false
    const other = serve(() => {
      came = true
      return Response.json([])
    })
    const url = serve(() => Response.redirect(`${other}/subjects`, 307))
    const refused = await fault(registry(url, { SCHEMA_REGISTRY_TOKEN: 't0ken' }).subjects())
    expect(refused.message).toContain('(307)')
    expect(came).toBe(false)
  })
})
