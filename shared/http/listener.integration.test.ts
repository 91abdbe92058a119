import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { X509Certificate } from 'node:crypto'
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect as connectPlainly } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import pino from 'pino'
import { type Authority, type Certificate, createAuthority } from '../testing/certificates.ts'
import { until } from '../testing/until.ts'
import { type Certificates, certificatesOf } from './certificates.ts'
import { clientAddress } from './client-address.ts'
import { authoriseByCertificate, namesOf } from './client-certificates.ts'
import { type Listener, type ListenOptions, listen, listenable } from './listener.ts'
import { openSockets } from './sockets.ts'
import { tenantsOf } from './tenants.ts'

/** Ports with real certificates, as openssl and clients see them. */

setDefaultTimeout(60_000)

const POLL_MS = 20
const HERE = 'DNS:localhost,IP:127.0.0.1'

const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-listener-'))
const stops: (() => Promise<void> | void)[] = []
let authority: Authority
let clients: Authority
let pairs: Certificate[]
let expired: Certificate

beforeAll(async () => {
  authority = await createAuthority()
  clients = await createAuthority()
  pairs = await Promise.all([1, 2, 3].map(() => authority.issue(HERE)))
  expired = await authority.issue(HERE, -1)
})

afterAll(async () => {
  for (const stop of stops) await stop()
  rmSync(folder, { recursive: true })
})

const pair = (index: number): Certificate => pairs[index % pairs.length] as Certificate

/** A directory of files as Kubernetes mounts a Secret: they are links into another, which is switched as a whole. */
function mount(name: string) {
  const at = (...path: string[]) => join(folder, name, ...path)
  let version = 0
  const put = (files: Readonly<Record<string, string>>): void => {
    const directory = mkdtempSync(`${join(folder, name)}-`)
    for (const [file, content] of Object.entries(files)) writeFileSync(join(directory, file), content)
    symlinkSync(directory, `${join(folder, name)}.${++version}`)
    renameSync(`${join(folder, name)}.${version}`, join(folder, name))
  }
  return { at, put }
}

const filesOf = ({ certificateFile, keyFile }: Certificate, more: Readonly<Record<string, string>> = {}) => ({
  'tls.crt': readFileSync(certificateFile, 'utf8') + readFileSync(authority.certificateFile, 'utf8'),
  'tls.key': readFileSync(keyFile, 'utf8'),
  ...more,
})

let mounts = 0

/** A port whose certificate can be changed. */
function port(options: Partial<ListenOptions> = {}, first = filesOf(pair(0)), clientCa?: string) {
  const { at, put } = mount(`mount${++mounts}`)
  put({ ...first, ...(clientCa === undefined ? {} : { 'ca.crt': clientCa }) })
  const lines: string[] = []
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) })
  const certificates = certificatesOf(
    {
      OPS_TLS: 'off',
      TLS_CERTIFICATE_FILE: at('tls.crt'),
      TLS_KEY_FILE: at('tls.key'),
      ...(clientCa === undefined ? {} : { TLS_CLIENT_CA_FILE: at('ca.crt') }),
    },
    log,
  ) as Certificates
  const listener = listen({
    hostname: '127.0.0.1',
    port: 0,
    certificates,
    fetch: async (request) => new Response(`${request.method} ${(await request.text()).length}`),
    ...options,
  })
  stops.push(() => {
    certificates.stop()
    return listener.stop(true)
  })
  return { listener, certificates, put, lines, watch: () => certificates.watch(POLL_MS) }
}

interface Opened {
  socket: TLSSocket
  /** Sends a request and reads the answer's status and body, or why there is none. */
  ask(body?: string): Promise<string>
}

/** A connection that is kept. */
function open(number: number, identity: Certificate | undefined = undefined): Promise<Opened> {
  const { promise, resolve, reject } = Promise.withResolvers<Opened>()
  const socket = connect({
    port: number,
    host: '127.0.0.1',
    ca: readFileSync(authority.certificateFile),
    ...(identity && { cert: readFileSync(identity.certificateFile), key: readFileSync(identity.keyFile) }),
  })
  let received = ''
  let take: (() => void) | undefined
  let ended = false
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
    take?.()
  })
  const end = (): void => {
    ended = true
    take?.()
  }
  socket.on('close', end)
  socket.on('error', (error) => {
    reject(error)
    end()
  })
  socket.on('secureConnect', () =>
    resolve({
      socket,
      async ask(body = '') {
        received = ''
        socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
        for (;;) {
          const found = /^HTTP\/1\.1 (\d+)[\s\S]*?content-length: (\d+)[\s\S]*?\r\n\r\n([\s\S]*)$/i.exec(received)
          if (found !== null && (found[3] ?? '').length >= Number(found[2])) return `${found[1]} ${found[3]}`
          if (ended) return `closed after ${JSON.stringify(received)}`
          await new Promise<void>((resolve) => {
            take = resolve
          })
        }
      },
    }),
  )
  return promise
}

const serialOf = (socket: TLSSocket): string => socket.getPeerCertificate().serialNumber

async function servedSerial(number: number): Promise<string> {
  const { socket } = await open(number)
  const serial = serialOf(socket)
  socket.destroy()
  return serial
}

const serialIn = (certificate: Certificate): string => {
  const { stdout } = Bun.spawnSync(['openssl', 'x509', '-noout', '-serial', '-in', certificate.certificateFile])
  return stdout.toString().trim().replace('serial=', '')
}

/** What `openssl s_client` says. */
async function client(number: number, args: readonly string[], input = 'Q\n'): Promise<string> {
  const process = Bun.spawn(['openssl', 's_client', '-connect', `127.0.0.1:${number}`, ...args], {
    stdin: new Blob([input]),
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: 10_000,
  })
  const [out, errors] = await Promise.all([process.stdout.text(), process.stderr.text()])
  await process.exited
  return out + errors
}

/** The protocol and cipher that were agreed on; undefined: none. */
const agreed = (said: string): string | undefined => {
  const [, protocol, cipher] = /New, (\S+), Cipher is (\S+)/.exec(said) ?? []
  return protocol === undefined || protocol === '(NONE)' ? undefined : `${protocol} ${cipher}`
}

describe('a port at every address', () => {
  const askedBy = async (host: string, number: number): Promise<string> => {
    const answer = await fetch(`https://${host}:${number}/`, { tls: { rejectUnauthorized: false }, keepalive: false })
    return answer.text()
  }

  test.each([[false], [true]])(
    'is reached by IPv4 and IPv6, also once its certificate has changed (client certificates: %p)',
    async (asksClients) => {
      const ca = asksClients ? readFileSync(clients.certificateFile, 'utf8') : undefined
      const { listener, put, watch } = port(
        {
          hostname: '::',
          asksClients,
          fetch: (request) => new Response(clientAddress(undefined, (one) => listener.addressOf(one))(request)),
        },
        filesOf(pair(0)),
        ca,
      )
      const both = () => Promise.all(['127.0.0.1', '[::1]'].map((host) => askedBy(host, listener.port)))
      expect(await both()).toEqual(['127.0.0.1', '::1'])
      watch()
      put(filesOf(pair(1), ca === undefined ? {} : { 'ca.crt': ca }))
      await until(async () => (await servedSerial(listener.port)) === serialIn(pair(1)))
      expect(await both()).toEqual(['127.0.0.1', '::1'])
    },
  )

  test('is at every one of IPv4 where the kernel has no IPv6', () => {
    expect(['::', '::1'].map((hostname) => listenable(hostname, false))).toEqual(['0.0.0.0', '::1'])
  })
})

describe('the TLS of a port', () => {
  const OURS = ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305']

  test('is 1.3 or 1.2, and nothing older', async () => {
    const { listener } = port()
    expect(agreed(await client(listener.port, []))).toMatch(/^TLSv1\.3 /)
    expect(agreed(await client(listener.port, ['-tls1_3']))).toMatch(/^TLSv1\.3 /)
    expect(agreed(await client(listener.port, ['-tls1_2']))).toMatch(/^TLSv1\.2 /)
    for (const old of ['-tls1_1', '-tls1']) {
      const said = await client(listener.port, [old, '-cipher', 'ALL:@SECLEVEL=0'])
      expect(agreed(said)).toBeUndefined()
      expect(said).toContain('alert protocol version')
    }
    // openssl itself cannot say SSL 3.0 any more.
    expect((await hello(listener.port, 0x0300))?.[0]).not.toBe(0x16)
    expect((await hello(listener.port, 0x0303))?.[0]).toBe(0x16)
  })

  test('has no cipher but those with forward secrecy and authenticated encryption', async () => {
    const { listener } = port()
    for (const cipher of OURS)
      expect(agreed(await client(listener.port, ['-tls1_2', '-cipher', cipher]))).toBe(`TLSv1.2 ${cipher}`)
    // CBC, RC4, 3DES, NULL, EXPORT, anonymous, pre-shared keys, RSA key exchange: all that openssl knows.
    const others = `ALL:eNULL:aNULL:!${OURS.join(':!')}:@SECLEVEL=0`
    const said = await client(listener.port, ['-tls1_2', '-cipher', others])
    expect(agreed(said)).toBeUndefined()
    expect(said).toContain('handshake failure')
  })

  test('is not negotiated again', async () => {
    const { listener } = port()
    const said = await client(listener.port, ['-tls1_2'], 'R\n')
    expect(said).toContain('RENEGOTIATING')
    expect(said).toMatch(/no.renegotiation|unexpected message|closed|eof/i)
  })

  test('has the whole chain of its certificate', async () => {
    const { listener } = port()
    const said = await client(listener.port, ['-showcerts', '-CAfile', authority.certificateFile])
    expect(said.match(/BEGIN CERTIFICATE/g)).toHaveLength(2)
    expect(said).toContain('Verify return code: 0 (ok)')
  })

  test('ends plain HTTP at once, without an answer to it', async () => {
    const { listener } = port()
    const received: Buffer[] = []
    const socket = connectPlainly(listener.port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))
    socket.on('data', (chunk: Buffer) => received.push(chunk))
    await new Promise((resolve) => socket.on('close', resolve))
    expect(Buffer.concat(received).toString('latin1')).not.toContain('HTTP/1.1')
  })
})

/** The first bytes of the answer to a minimal ClientHello of a version, with the ciphers of that time and ours. */
async function hello(number: number, version: number): Promise<Buffer | undefined> {
  const ciphers = [0xc02b, 0xc02f, 0xc00a, 0xc014, 0x0035, 0x002f, 0x000a, 0x0005, 0x0004].flatMap((one) => [
    one >> 8,
    one & 255,
  ])
  const extensions = version < 0x0301 ? [] : [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3]
  const body = [
    ...[version >> 8, version & 255],
    ...Array<number>(32).fill(7),
    ...[0, 0, ciphers.length, ...ciphers, 1, 0],
    ...(extensions.length === 0 ? [] : [0, extensions.length, ...extensions]),
  ]
  const message = [1, 0, 0, body.length, ...body]
  const record = Buffer.from([0x16, 3, version === 0x0300 ? 0 : 1, 0, message.length, ...message])
  const { promise, resolve } = Promise.withResolvers<Buffer | undefined>()
  const socket = connectPlainly(number, '127.0.0.1', () => socket.write(record))
  socket.on('data', (chunk: Buffer) => resolve(chunk))
  socket.on('close', () => resolve(undefined))
  const answer = await promise
  socket.destroy()
  return answer
}

test('Bun’s server still takes no certificate anew: once it does, handing over its socket can go', async () => {
  const tls = (index: number) => ({
    cert: readFileSync(pair(index).certificateFile, 'utf8'),
    key: readFileSync(pair(index).keyFile, 'utf8'),
  })
  const fetch = () => new Response()
  const server = Bun.serve({ hostname: '127.0.0.1', port: 0, tls: tls(0), fetch })
  server.reload({ tls: tls(1), fetch })
  expect(await servedSerial(server.port ?? 0)).toBe(serialIn(pair(0)))
  await server.stop(true)
})

describe.skipIf(openSockets() === undefined)('a certificate that is replaced', () => {
  const RENEWALS = 8

  /** Renews again and again while connections are kept and opened; each request has to be answered. */
  async function renewUnderLoad(
    number: number,
    put: (files: Record<string, string>) => void,
    more = {},
    identity?: Certificate,
  ) {
    const ending = new AbortController()
    const failures: string[] = []
    let answers = 0
    const check = (answer: string): void => {
      if (answer === '200 POST 3') answers++
      else failures.push(answer)
    }
    const keeping = Array.from({ length: 6 }, async () => {
      const { ask, socket } = await open(number, identity)
      while (!ending.signal.aborted) check(await ask('abc'))
      socket.destroy()
    })
    const opening = Array.from({ length: 4 }, async () => {
      while (!ending.signal.aborted) {
        const { ask, socket } = await open(number, identity)
        check(await ask('abc'))
        socket.destroy()
      }
    })
    try {
      for (let renewal = 1; renewal <= RENEWALS; renewal++) {
        put(filesOf(pair(renewal), more))
        const wanted = serialIn(pair(renewal))
        await until(async () => (await servedSerial(number)) === wanted, { what: `renewal ${renewal}` })
        const before = answers
        await until(() => answers > before + 20 || failures.length > 0, { what: 'answers' })
      }
    } finally {
      ending.abort()
    }
    await Promise.all([...keeping, ...opening])
    expect(failures).toEqual([])
    expect(answers).toBeGreaterThan(20 * RENEWALS)
  }

  test('is served to all later connections, without a connection that is closed or refused, or a failed request', async () => {
    const { listener, put, watch } = port()
    await watch()
    const openOnes = (): number => ownSockets().filter(({ port }) => port === listener.port).length
    const before = openOnes()
    expect(before).toBeGreaterThan(0)
    await renewUnderLoad(listener.port, put)
    // Servers with earlier certificates are gone, once their connections are.
    put(filesOf(pair(1)))
    await until(async () => (await servedSerial(listener.port)) === serialIn(pair(1)), { what: 'the last one' })
    await until(() => openOnes() <= before, { what: 'earlier servers to be closed' })
  })

  test('is so where clients have certificates, too', async () => {
    const ca = readFileSync(clients.certificateFile, 'utf8')
    const { listener, put, watch } = port({ asksClients: true }, filesOf(pair(0)), ca)
    await watch()
    await renewUnderLoad(listener.port, put, { 'ca.crt': ca }, await clients.issue('DNS:till.example'))
  })

  test('waits for its key, or its certificate, whichever comes first', async () => {
    const { listener, certificates, put, lines, watch } = port()
    await watch()
    const [old, later] = [filesOf(pair(0)), filesOf(pair(1))]
    put({ ...old, 'tls.crt': later['tls.crt'] })
    // Some time, in which the change is seen.
    for (let look = 1; look <= 8; look++)
      expect([await servedSerial(listener.port), certificates.state()]).toEqual([serialIn(pair(0)), { ok: true }])
    put(later)
    await until(async () => (await servedSerial(listener.port)) === serialIn(pair(1)), { what: 'the new pair' })
    expect(lines.filter((line) => line.includes('"level":50'))).toEqual([])
  })

  test('that cannot be used is said once, and the one before stays', async () => {
    const { listener, certificates, put, lines, watch } = port()
    await watch()
    put({ ...filesOf(pair(1)), 'tls.crt': 'nothing' })
    await until(() => certificates.state().detail !== undefined, { what: 'the fault' })
    expect(certificates.state().detail).toMatch(/^what was read before is in use.*TLS_CERTIFICATE_FILE=/)
    expect(await servedSerial(listener.port)).toBe(serialIn(pair(0)))
    expect(lines.filter((line) => line.includes('cannot be used'))).toHaveLength(1)
    put(filesOf(pair(2)))
    await until(() => certificates.state().detail === undefined, { what: 'the new one' })
    expect(await servedSerial(listener.port)).toBe(serialIn(pair(2)))
  })
})

test('a certificate that has expired is said at the start, and served', async () => {
  const { listener, certificates, lines } = port({}, filesOf(expired))
  expect(certificates.state().detail).toMatch(/has expired, at 20/)
  expect(lines.filter((line) => line.includes('has expired'))).toHaveLength(1)
  expect(await client(listener.port, ['-CAfile', authority.certificateFile])).toContain('certificate has expired')
})

test('a key of another certificate is refused at the start', () => {
  const files = { certificate: pair(0).certificateFile, key: pair(1).keyFile }
  const config = { OPS_TLS: 'off' as const, TLS_CERTIFICATE_FILE: files.certificate, TLS_KEY_FILE: files.key }
  expect(() => certificatesOf(config, pino({ level: 'silent' }))).toThrow(files.key)
})

describe('a client’s certificate', () => {
  const tenants = tenantsOf({
    tenants: {
      shop: { streams: ['events'], keys: [], certificates: [{ id: 'till', san: 'DNS:till.example' }] },
      bank: { streams: ['events'], keys: [], certificates: [{ id: 'office', subject: 'CN=office.example' }] },
    },
  })
  const authorise = authoriseByCertificate(tenants, () => ({
    ok: false,
    problem: { kind: 'unauthenticated', detail: 'no key' },
  }))

  /** Answers with who the request is of, where it comes from, and what it has sent. */
  const asking = (): { listener: Listener } & ReturnType<typeof port> =>
    port(
      {
        asksClients: true,
        maxRequestBodySize: 2 ** 30,
        fetch: async (request) => {
          const decided = await authorise(request, { role: 'send', tenant: undefined, stream: undefined })
          const who = decided.ok ? `${decided.tenant.name} ${decided.keyId}` : decided.problem.detail
          return new Response(who)
        },
      },
      filesOf(pair(0)),
      readFileSync(clients.certificateFile, 'utf8'),
    )

  const as = async (number: number, identity?: Certificate): Promise<string> => {
    const { ask, socket } = await open(number, identity)
    const answer = await ask()
    socket.destroy()
    return answer
  }

  test('says which tenant a request is of, each connection its own', async () => {
    const { listener } = asking()
    const [till, office, other] = await Promise.all(
      ['till.example', 'office.example', 'x.example'].map((name) => clients.issue(`DNS:${name}`)),
    )
    const answers = await Promise.all([till, office, undefined, other, till].map((one) => as(listener.port, one)))
    expect(answers).toEqual([
      '200 shop till',
      '200 bank office',
      '200 no key',
      expect.stringContaining('stands for no tenant'),
      '200 shop till',
    ])
  })

  test('has the names that openssl shows', () => {
    const file = join(folder, 'subject.pem')
    const subject = '/C=DE/O=Müller, "Söhne" \\+ Co <x>;/OU=#1/OU=y+CN=z/emailAddress=a@b.example/CN= till'
    const key = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      join(folder, 'subject.key'),
    ]
    Bun.spawnSync(['openssl', 'req', '-x509', '-utf8', ...key, '-subj', subject, '-out', file])
    const shown = Bun.spawnSync(['openssl', 'x509', '-noout', '-subject', '-nameopt', 'RFC2253,-esc_msb', '-in', file])
    const [name] = namesOf(new X509Certificate(readFileSync(file)))
    expect(name?.replace(':', '=')).toBe(shown.stdout.toString().trim())
    expect(name).toContain('Müller')
  })

  test('of another authority, or one that has expired, is not accepted, and the answer says why', async () => {
    const { listener } = asking()
    const stranger = await (await createAuthority()).issue('DNS:till.example')
    expect(await as(listener.port, stranger)).toMatch(/certificate is not accepted: .*(issuer|verify)/)
    expect(await as(listener.port, await clients.issue('DNS:till.example', -1))).toMatch(/not accepted: .*expired/)
  })

  test('is verified by the authorities of now: a connection of before has one more answer', async () => {
    const { listener, put, watch } = asking()
    await watch()
    const till = await clients.issue('DNS:till.example')
    const { ask, socket } = await open(listener.port, till)
    expect(await ask()).toBe('200 shop till')
    const later = await createAuthority()
    put(filesOf(pair(1), { 'ca.crt': readFileSync(later.certificateFile, 'utf8') }))
    await until(async () => (await servedSerial(listener.port)) === serialIn(pair(1)), { what: 'the new authorities' })
    expect(await ask()).toBe('200 shop till')
    await until(() => socket.destroyed || socket.readableEnded, { what: 'the end of the connection' })
    expect(await as(listener.port, till)).toContain('not accepted')
    expect(await as(listener.port, await later.issue('DNS:till.example'))).toBe('200 shop till')
  })

  test('is asked for past no other way in: a process of this machine that connects to the port behind is refused', async () => {
    const { listener } = asking()
    const behind = listeningPorts().filter((number) => number !== listener.port)
    const statuses = await Promise.all(
      behind.map((number) =>
        fetch(`http://127.0.0.1:${number}/`).then(
          ({ status }) => status,
          () => 0,
        ),
      ),
    )
    expect(statuses).toContain(403)
    expect(statuses).not.toContain(200)
  })
})

/** The TCP sockets that this process has open, by local port (proc(5), /proc/net/tcp). */
function ownSockets(): { port: number; isListening: boolean }[] {
  const inodes = new Set(
    readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [/^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1] ?? '']
      } catch {
        return []
      }
    }),
  )
  return readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/)
      const port = Number.parseInt(local.split(':')[1] ?? '', 16)
      return inodes.has(inode) ? [{ port, isListening: state === '0A' }] : []
    })
}

const listeningPorts = (): number[] => ownSockets().flatMap(({ port, isListening }) => (isListening ? [port] : []))

describe('what goes through TLS and on', () => {
  const SIZE = 20 * 2 ** 20

  /** Ports that echo, with and without the relay. */
  const echoing = (asksClients: boolean) =>
    port(
      { asksClients, maxRequestBodySize: 2 ** 30, fetch: (request) => new Response(request.body) },
      filesOf(pair(0)),
      readFileSync(clients.certificateFile, 'utf8'),
    )

  test.each([[false], [true]])(
    'arrives whole, in both directions at once, however slowly it is read (client certificates: %p)',
    async (asksClients) => {
      const { listener } = echoing(asksClients)
      const sent = new Uint8Array(SIZE).map((_, at) => (at * 7 + (at >> 12)) & 255)
      const response = await fetch(`https://127.0.0.1:${listener.port}/`, {
        method: 'POST',
        body: sent,
        tls: { ca: readFileSync(authority.certificateFile, 'utf8') },
      })
      const hash = new Bun.CryptoHasher('sha256')
      let pieces = 0
      for await (const piece of response.body as ReadableStream<Uint8Array>) {
        hash.update(piece)
        // So that what follows has to wait.
        if (++pieces % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
      }
      expect(hash.digest('hex')).toBe(new Bun.CryptoHasher('sha256').update(sent).digest('hex'))
    },
  )

  test.each([[false], [true]])('ends when the client is gone (client certificates: %p)', async (asksClients) => {
    const aborted = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    const { listener } = port(
      {
        asksClients,
        fetch: (request) => {
          request.signal.addEventListener('abort', () => aborted.resolve())
          begun.resolve()
          return new Response(new ReadableStream({ pull: () => new Promise<void>(() => undefined) }))
        },
      },
      filesOf(pair(0)),
      readFileSync(clients.certificateFile, 'utf8'),
    )
    const { socket } = await open(listener.port)
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    await begun.promise
    socket.destroy()
    await aborted.promise
  })

  test('comes from the client’s address', async () => {
    const addresses: (string | undefined)[] = []
    for (const asksClients of [false, true]) {
      const { listener }: ReturnType<typeof port> = port(
        {
          asksClients,
          fetch: (request) => {
            addresses.push(listener.addressOf(request))
            return new Response('')
          },
        },
        filesOf(pair(0)),
        readFileSync(clients.certificateFile, 'utf8'),
      )
      const { ask, socket } = await open(listener.port)
      await ask()
      socket.destroy()
    }
    expect(addresses).toEqual(['127.0.0.1', '127.0.0.1'])
  })
})
