import { afterAll, describe, expect, test } from 'bun:test'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import project from '../../../package.json'
import { EXIT_USAGE } from '../../service/command-line.ts'
import { until } from '../../testing/until.ts'
import { missingSymbols, removeAbandoned, TESTED_CLIENT, wrongBun } from './build.ts'
import { stubsAmong } from './stubs.ts'

const BUILD = join(import.meta.dir, 'build.ts')

const directory = mkdtempSync(join(tmpdir(), 'kafkatrace-build-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

function build(args: string[], env: Record<string, string> = {}) {
  const child = Bun.spawnSync([process.execPath, BUILD, ...args], { env: { ...process.env, ...env } })
  return { exitCode: child.exitCode, stdout: child.stdout.toString(), stderr: child.stderr.toString() }
}

describe('the command', () => {
  test('explains itself', () => {
    const { exitCode, stdout } = build(['--help'])
    expect(exitCode).toBe(0)
    expect(stdout).toContain('Usage: bun shared/kafka/native/build.ts [--rebuild | --release FOLDER]')
  })

  test('refuses unknown options', () => {
    const { exitCode, stderr } = build(['--rebuld'])
    expect(exitCode).toBe(EXIT_USAGE)
    expect(stderr).toContain("Unknown option '--rebuld'")
  })

  test('names all that it misses in one line, with the command that gets it', () => {
    // No compiler on the path; headers are looked for where they usually are.
    const { exitCode, stderr } = build([], {
      PATH: directory,
      KAFKATRACE_CACHE_DIR: join(directory, 'cache'),
      KAFKATRACE_ADDON_URL: '',
    })
    expect(exitCode).toBe(1)
    expect(stderr).toStartWith('kafka addon: needed for its first build and not found: c++, cc, make, ar, nm, patch')
    expect(stderr).toContain('apt-get install build-essential patch')
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  })
})

test.each([
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)('a build that gets %s ends what it had started, and leaves no folder behind', async (signal, exitCode) => {
  const bin = join(directory, `bin-${signal}`)
  const cache = join(directory, `cache of ${signal}`)
  const started = join(bin, 'started')
  mkdirSync(bin)
  for (const name of ['c++', 'cc', 'make', 'ar', 'nm']) writeFileSync(join(bin, name), '#!/bin/sh\n', { mode: 0o755 })
  // Stands for make and its compilers: the first command that a build runs, with a child.
  writeFileSync(join(bin, 'patch'), `#!/bin/sh\n/bin/sleep 60 &\necho $! >'${started}'\nwait\n`, { mode: 0o755 })
  const headers = `node-${process.platform}-${process.arch}-${process.versions.node}-headers`
  mkdirSync(join(cache, 'native', headers), { recursive: true })
  const child = Bun.spawn([process.execPath, BUILD, '--rebuild'], {
    env: { ...process.env, PATH: bin, KAFKATRACE_CACHE_DIR: cache },
    stdio: ['ignore', 'ignore', 'ignore'],
  })
  const text = (): string => (existsSync(started) ? readFileSync(started, 'utf8').trim() : '')
  await until(() => text() !== '')
  child.kill(signal)
  expect(await child.exited).toBe(exitCode)
  await until(
    () => !existsSync(`/proc/${text()}`) || /^State:\s+Z/m.test(readFileSync(`/proc/${text()}/status`, 'utf8')),
  )
  expect(readdirSync(join(cache, 'native')).filter((name) => name.startsWith('build-'))).toEqual([])
})

test('another Bun than the pinned one is told what to type', () => {
  expect(wrongBun('1.4.5', '1.4.5', 'run test')).toBeUndefined()
  expect(wrongBun('1.4.5', '1.4.6', 'run test')).toEndWith('this is Bun 1.4.6; type: npx -y bun@1.4.5 run test')
  expect(wrongBun('1.4.5', '1.3.0', 'install', 'first && ')).toEndWith('type: first && npx -y bun@1.4.5 install')
})

describe('missing symbols', () => {
  const exported = ['_ZN2v85Array3NewEPNS_7IsolateEi', 'uv_async_init', 'uv_cond_wait', 'napi_create_object']

  test('are none when the runtime has what is needed', () => {
    expect(missingSymbols(['_ZN2v85Array3NewEPNS_7IsolateEi', 'uv_async_init', 'malloc', ''], exported)).toEqual([])
  })

  test('are the functions of V8, Node and libuv that the runtime lacks', () => {
    const needed = [
      '_ZNK2v85Value8IsBigIntEv',
      '_ZN4node6Buffer4CopyEv',
      'uv_async_send',
      'node_api_x',
      '_ZTVN2v86ThingE',
    ]
    expect(missingSymbols(needed, exported)).toEqual(needed)
  })

  test('are not those of other libraries', () => {
    expect(missingSymbols(['SSL_new', 'ZSTD_compress', '_ZNSt6vectorE', 'uvula'], exported)).toEqual([])
  })
})

test('a function of libuv that only ends the process is told from those that work', async () => {
  const stubs = ['uv_thread_create', 'uv_run', 'uv_cond_wait']
  const working = ['uv_default_loop', 'uv_async_init', 'uv_async_send', 'uv_close', 'uv_mutex_init', 'uv_mutex_lock']
  expect(await stubsAmong([...stubs, ...working])).toEqual(stubs)
})

test('the client of package.json is the tested one', () => {
  expect(project.dependencies['@confluentinc/kafka-javascript']).toBe(TESTED_CLIENT)
})

test('directories of builds that were killed are removed, those of running ones stay', () => {
  const cache = join(directory, 'abandoned')
  const ended = Bun.spawnSync(['true'])
  const [gone, running, result] = [`build-${ended.pid}-1`, `build-${process.pid}-1`, 'linux-x64-bun1.4.5-0123'] as const
  for (const name of [gone, running, result]) {
    mkdirSync(join(cache, name, 'src'), { recursive: true })
    writeFileSync(join(cache, name, 'src/file'), '')
  }
  removeAbandoned(cache)
  expect([gone, running, result].map((name) => existsSync(join(cache, name)))).toEqual([false, true, true])
})
