import { afterAll, expect, test } from 'bun:test'
import { createAuthority } from '../testing/certificates.ts'
import { connectionFault } from './connection-fault.ts'

/** What the runtime says of real connections that fail. */

const servers: Bun.Server<undefined>[] = []
afterAll(() => Promise.all(servers.map((server) => server.stop(true))))

test('faults of TLS are told apart, and a request that was not sent is known as such', async () => {
  const [authority, other] = [await createAuthority(), await createAuthority()]
  const of = async (path: string): Promise<string> => Bun.file(path).text()
  const [ours, others] = [await of(authority.certificateFile), await of(other.certificateFile)]
  let requests = 0
  const serve = async (names?: string, days?: number): Promise<number> => {
    const made = names === undefined ? undefined : await authority.issue(names, days)
    const server = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      ...(made && { tls: { cert: await of(made.certificateFile), key: await of(made.keyFile) } }),
      fetch() {
        requests++
        return new Response('ok')
      },
    })
    servers.push(server)
    return server.port ?? 0
  }
  const said = async (url: string, ca = ours) => {
    try {
      await (await fetch(url, { method: 'POST', body: 'an event', tls: { ca } })).text()
      return 'answered'
    } catch (error) {
      const fault = connectionFault(error, { url })
      return fault === undefined ? error : [fault.kind, fault.isBeforeRequest]
    }
  }
  const [right, elsewhere, old, plain] = [
    await serve('IP:127.0.0.1'),
    await serve('DNS:elsewhere.example'),
    await serve('IP:127.0.0.1', -1),
    await serve(),
  ]
  expect(await said(`https://127.0.0.1:${elsewhere}/`)).toEqual(['name', true])
  expect(await said(`https://127.0.0.1:${right}/`, others)).toEqual(['authority', true])
  expect(await said(`https://127.0.0.1:${old}/`)).toEqual(['expired', true])
  expect(await said(`https://127.0.0.1:${plain}/`)).toEqual(['tls', false])
  expect(await said(`http://127.0.0.1:${right}/`)).toEqual(['closed', false])
  // Nothing of these arrived; what is accepted does.
  expect(requests).toBe(0)
  expect(await said(`https://127.0.0.1:${right}/`)).toBe('answered')
  expect(requests).toBe(1)
})
