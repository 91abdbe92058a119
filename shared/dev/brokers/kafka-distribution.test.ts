import { afterEach, beforeEach, describe, expect, test } from 'bun:test'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { settled } from '../../testing/settled.ts'
import { findJava, javaCommand, provideKafka } from './kafka-distribution.ts'

const names = ['PATH', 'JAVA_HOME', 'KAFKATRACE_CACHE_DIR'] as const
const before = Object.fromEntries(names.map((name) => [name, process.env[name]]))
let folder = ''
let bin = ''
let cache = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kafkatrace-distribution-'))
  bin = join(folder, 'bin')
  cache = join(folder, 'cache')
  mkdirSync(bin)
  process.env.PATH = `${bin}:/usr/sbin:/sbin`
  process.env.KAFKATRACE_CACHE_DIR = cache
  delete process.env.JAVA_HOME
})

afterEach(() => {
  for (const name of names) {
    if (before[name] === undefined) delete process.env[name]
    else process.env[name] = before[name]
  }
  rmSync(folder, { recursive: true })
})

function command(name: string, script: string): void {
  writeFileSync(join(bin, name), `#!/bin/sh\nPATH=/usr/bin:/bin\n${script}\n`)
  chmodSync(join(bin, name), 0o755)
}

const java = (version: string) => command('java', `echo 'openjdk version "${version}" 2025-04-15' >&2`)

/** A Maven that notes each run, and after a moment leaves two jars where it is told to. */
function maven(ending: string): () => number {
  const runs = join(folder, 'runs')
  writeFileSync(runs, '')
  command(
    'mvn',
    `echo run >>${runs}
    for argument; do case $argument in -DoutputDirectory=*) output=\${argument#*=} ;; esac; done
    mkdir -p "$output"; touch "$output/b.jar"; sleep 0.05; touch "$output/a.jar"
    ${ending}`,
  )
  return () => readFileSync(runs, 'utf8').split('\n').length - 1
}

describe('Java', () => {
  test('that is missing is asked for in one line', async () => {
    expect(await settled(findJava())).toThrow(/needs Java 17 or newer; install it with: apt-get install/)
  })

  test('that is too old is named with its version', async () => {
    java('11.0.2')
    expect(await settled(findJava())).toThrow(`${join(bin, 'java')} is 11;`)
  })

  test('of JAVA_HOME goes before that of the path, and is missed when it is not there', async () => {
    java('17.0.15')
    expect(await findJava()).toBe(join(bin, 'java'))
    process.env.JAVA_HOME = join(folder, 'jdk')
    expect(await settled(findJava())).toThrow('JAVA_HOME=')
    mkdirSync(join(folder, 'jdk'))
    process.env.JAVA_HOME = folder
    expect(await findJava()).toBe(join(bin, 'java'))
  })
})

describe('Apache Kafka', () => {
  beforeEach(() => java('17.0.15'))

  test('is fetched once, and then found in the cache', async () => {
    const runs = maven('exit 0')
    const said: string[] = []
    const first = await provideKafka((progress) => said.push(progress))
    const second = await provideKafka((progress) => said.push(progress))
    expect(second).toEqual(first)
    expect(runs()).toBe(1)
    expect(said).toEqual([`fetching Apache Kafka ${first.version} from Maven Central, 45 MB, once`])
    expect(first.classPath.split(':').map((jar) => jar.slice(jar.lastIndexOf('/')))).toEqual(['/a.jar', '/b.jar'])
  })

  test('may be fetched by two at once: both have all of it, and nothing is left over', async () => {
    maven('exit 0')
    const [one, other] = await Promise.all([provideKafka(), provideKafka()])
    expect(one).toEqual(other)
    for (const jar of one.classPath.split(':')) expect(existsSync(jar)).toBe(true)
    expect(readdirSync(cache)).toHaveLength(1)
  })

  test('that cannot be fetched leaves nothing that looks like it, and Maven’s words', async () => {
    maven('echo "[ERROR] unknown host"; exit 1')
    expect(await settled(provideKafka())).toThrow(/Maven Central reachable\?\n\[ERROR\] unknown host/)
    expect(readdirSync(cache)).toEqual([])
  })

  test('that is not fetched in time leaves nothing that looks like it, and says so', async () => {
    maven('exec sleep 60')
    expect(await settled(provideKafka(undefined, 200))).toThrow('did not fetch Apache Kafka within 0.2 s')
    expect(readdirSync(cache)).toEqual([])
  })

  test('needs Maven only where the cache is empty', async () => {
    expect(await settled(provideKafka())).toThrow('apt-get install maven')
    maven('exit 0')
    await provideKafka()
    rmSync(join(bin, 'mvn'))
    await provideKafka()
  })
})

test('an archive of classes is used where there is one, except for what is measured', () => {
  const classArchive = join(folder, 'classes.jsa')
  const distribution = { version: '4', java: '/j', classPath: 'a:b', classArchive }
  const option = `-XX:SharedArchiveFile=${classArchive}`
  const line = (longRun: boolean) =>
    javaCommand(distribution, 'kafka.Kafka', [], { heapMb: 64, log: 'warn', longRun }).includes(option)
  expect(line(false)).toBe(false)
  writeFileSync(classArchive, '')
  expect(line(false)).toBe(true)
  expect(line(true)).toBe(false)
})

test('an archive of classes is another one for another Java', async () => {
  maven('exit 0')
  java('17.0.15')
  const { classArchive } = await provideKafka()
  expect((await provideKafka()).classArchive).toBe(classArchive)
  rmSync(join(bin, 'java'))
  java('21.0.1')
  expect((await provideKafka()).classArchive).not.toBe(classArchive)
})

test('a command line has the main class before its own arguments', () => {
  const distribution = { version: '4', java: '/j', classPath: 'a:b', classArchive: '/none' }
  const line = javaCommand(distribution, 'kafka.Kafka', ['server.properties'], { heapMb: 64, log: 'warn' })
  expect(line.slice(0, 2)).toEqual(['/j', '-Xmx64m'])
  expect(line.slice(-4)).toEqual(['-cp', 'a:b', 'kafka.Kafka', 'server.properties'])
})
