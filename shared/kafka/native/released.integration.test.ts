import { afterAll, beforeEach, describe, expect, spyOn, test } from 'bun:test'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ADDON_FILE, INSTALLED, MANIFEST_FILE } from './check.ts'
import { releasedAddon, releasedFiles, writeReleased } from './released.ts'

const KEY = 'linux-x64-test'
const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-released-'))
const compiled = join(directory, 'compiled')
const release = join(directory, 'release')
const files = releasedFiles(KEY)
const said: string[] = []
const stderr = spyOn(process.stderr, 'write').mockImplementation((text) => said.push(String(text)) > 0)

/** A place for releases: a file server. */
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch(request) {
    const file = Bun.file(join(release, new URL(request.url).pathname))
    return file.exists().then((there) => (there ? new Response(file) : new Response(null, { status: 404 })))
  },
})

let cache: string

beforeEach(() => {
  process.env.KAFKATRACE_ADDON_URL = `http://127.0.0.1:${server.port}`
  said.length = 0
  cache = mkdtempSync(join(directory, 'cache-'))
  mkdirSync(compiled, { recursive: true })
  copyFileSync(join(INSTALLED, ADDON_FILE), join(compiled, ADDON_FILE))
  writeFileSync(join(compiled, MANIFEST_FILE), JSON.stringify({ key: KEY, bun: Bun.version }))
  rmSync(release, { recursive: true, force: true })
  writeReleased(compiled, release)
})

afterAll(async () => {
  delete process.env.KAFKATRACE_ADDON_URL
  stderr.mockRestore()
  await server.stop(true)
  rmSync(directory, { recursive: true, force: true })
})

const take = () => releasedAddon(cache, { key: KEY })

describe('the release’s addon', () => {
  test('is taken, kept, and not asked for again', async () => {
    const kept = await take()
    expect(kept).toBe(join(cache, KEY))
    expect(readFileSync(join(kept ?? '', ADDON_FILE)).equals(readFileSync(join(INSTALLED, ADDON_FILE)))).toBe(true)
    expect(readdirSync(cache)).toEqual([KEY])
    rmSync(release, { recursive: true })
    expect(await take()).toBe(kept as string)
  })

  test('is taken again when the cache’s is damaged, and then loads', async () => {
    const kept = (await take()) ?? ''
    truncateSync(join(kept, ADDON_FILE), 100_000)
    expect(await take()).toBe(kept)
    expect(readFileSync(join(kept, ADDON_FILE)).equals(readFileSync(join(INSTALLED, ADDON_FILE)))).toBe(true)
    expect(readdirSync(cache)).toEqual([KEY])
    said.length = 0
    await take()
    expect(said).toEqual([])
  })

  test('is found behind an address with slashes at its end', async () => {
    process.env.KAFKATRACE_ADDON_URL += '//'
    expect(await take()).toBe(join(cache, KEY))
  })

  test('is not asked for where the variable is empty', async () => {
    process.env.KAFKATRACE_ADDON_URL = ''
    expect(await take()).toBeUndefined()
    expect(said).toEqual([])
  })

  test('is not there: one line says where, why, and what follows', async () => {
    rmSync(join(release, files.manifest))
    expect(await take()).toBeUndefined()
    const url = `${process.env.KAFKATRACE_ADDON_URL}/${files.manifest}`
    expect(said).toEqual([`kafka addon: no addon at ${url}: 404; it has to be compiled\n`])
  })

  test('is not there where nobody listens', async () => {
    process.env.KAFKATRACE_ADDON_URL = 'http://127.0.0.1:1'
    expect(await take()).toBeUndefined()
    expect(said).toEqual([
      `kafka addon: no addon at http://127.0.0.1:1/${files.manifest}: ECONNREFUSED; it has to be compiled\n`,
    ])
  })

  const refused = async (reason: string) => {
    expect(await take()).toBeUndefined()
    expect(said.join('')).toContain(reason)
    expect(existsSync(join(cache, KEY))).toBe(false)
    expect(readdirSync(cache)).toEqual([])
  }

  test('is refused when it is not what its manifest says', async () => {
    writeFileSync(join(release, files.addon), Bun.gzipSync(Buffer.from('something else')))
    await refused('is not what its manifest says')
  })

  test('is refused when it is cut short', async () => {
    const whole = readFileSync(join(release, files.addon))
    writeFileSync(join(release, files.addon), whole.subarray(0, whole.length / 2))
    await refused(`${files.addon} answered is not a release’s file`)
  })

  test('is refused when it cannot be loaded here', async () => {
    writeFileSync(join(compiled, ADDON_FILE), 'no addon')
    writeReleased(compiled, release)
    await refused('the release’s cannot be used here')
  })

  test('is refused when half of the release is missing', async () => {
    rmSync(join(release, files.addon))
    await refused('404')
  })

  test('is refused when a page is answered in its place', async () => {
    writeFileSync(join(release, files.manifest), '<!doctype html>')
    await refused(`${files.manifest} answered is not a release’s file`)
  })
})
