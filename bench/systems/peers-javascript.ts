import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, realpath, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { provideBuilt, runTool, UnavailableError } from '../../shared/dev/built.ts'
import { startHttpProcess } from './http-process.ts'
import type { System } from './system.ts'

/** The peers in JavaScript, on Node and on Bun. */

const PEERS = join(import.meta.dir, '../peers')
const PLATFORM = `${process.platform}-${process.arch}`

interface Runtime {
  name: string
  command: string
  /** How to install it. */
  install: string
  lock: string
  /** Installs exactly what the lock file says, without running packages' scripts. */
  installPackages: readonly [string, ...string[]]
  version(folder: string): Promise<string>
}

const INSTALL_NODE = 'install it with: apt-get install nodejs npm, or from nodejs.org'

const NODE: Runtime = {
  name: 'node',
  command: 'node',
  install: INSTALL_NODE,
  lock: 'package-lock.json',
  installPackages: ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund'],
  version: async (folder) => (await runTool(['node', '--version'], folder, INSTALL_NODE)).trim().replace('v', ''),
}

const BUN: Runtime = {
  name: 'bun',
  command: process.execPath,
  install: '',
  lock: 'bun.lock',
  installPackages: [process.execPath, 'install', '--frozen-lockfile', '--ignore-scripts'],
  version: () => Promise.resolve(Bun.version),
}

interface JavaScriptPeer {
  name: string
  facts: Omit<System['facts'], 'name' | 'kind' | 'sameGuarantees'>
  runtime: Runtime
  /** Packages whose versions are reported. */
  packages: readonly string[]
  /** Compiled after the packages are installed. */
  compile?(into: string, say: (progress: string) => void): Promise<void>
}

function javaScriptPeer({ name, facts, runtime, packages, compile }: JavaScriptPeer): System {
  const source = join(PEERS, name)
  const files = ['package.json', runtime.lock]
  const install = async (say: (progress: string) => void): Promise<string> =>
    provideBuilt({
      name,
      files: files.map((file) => join(source, file)),
      made: [PLATFORM, await runtime.version(source)],
      async build(into) {
        say(`installing ${packages.join(', ')}`)
        for (const file of files) await copyFile(join(source, file), join(into, file))
        await runTool(runtime.installPackages, into, runtime.install)
        await compile?.(into, say)
      },
    })
  return {
    facts: { name, kind: 'peer', sameGuarantees: true, ...facts },
    async prepare(say) {
      const installed = await install(say)
      const versions = { [runtime.name]: await runtime.version(source) }
      for (const name of packages) {
        const manifest = Bun.file(join(installed, 'node_modules', name, 'package.json'))
        versions[name] = ((await manifest.json()) as { version: string }).version
      }
      return versions
    },
    async start({ brokers, topic, port, directory }) {
      // Packages resolve relative to the importing program.
      const home = join(directory, name)
      await mkdir(home, { recursive: true })
      await cp(source, home, { recursive: true })
      await symlink(join(await install(() => undefined), 'node_modules'), join(home, 'node_modules'))
      return startHttpProcess({
        name,
        command: [runtime.command, join(home, 'server.js')],
        env: { KAFKA_BROKERS: brokers, TOPIC: topic, NODE_ENV: 'production' },
        port,
        directory,
      })
    },
  }
}

/** For clients that leave batching to the application. */
const NEXT_BATCH = 'none: what comes while a request is in flight goes out together in the next'

const HONO_PLATFORMATIC = javaScriptPeer({
  name: 'hono-platformatic',
  facts: {
    title: 'Bun: Hono + @platformatic/kafka',
    settings: {
      acks: 'all',
      idempotence: 'on',
      'requests in flight': '1, the most that its idempotent producer takes',
      linger: NEXT_BATCH,
      compression: 'lz4',
      retries: '10, 1 s apart',
      NODE_ENV: 'production',
    },
    notes: 'Validation by a compiled TypeBox schema.',
  },
  runtime: BUN,
  packages: ['hono', '@platformatic/kafka', '@sinclair/typebox'],
})

const FASTIFY_KAFKAJS = javaScriptPeer({
  name: 'fastify-kafkajs',
  facts: {
    title: 'Node: Fastify + KafkaJS',
    settings: {
      acks: 'all',
      idempotence: 'on',
      'requests in flight': '1, the most that its idempotent producer takes',
      linger: NEXT_BATCH,
      compression: 'none: it brings gzip only',
      logger: 'off',
      NODE_ENV: 'production',
    },
    notes: 'Validation by Fastify’s JSON schema (Ajv).',
  },
  runtime: NODE,
  packages: ['fastify', 'kafkajs'],
})

const COMPILERS = ['c++', 'make', 'python3'] as const
const INSTALL_COMPILERS = 'install it with: apt-get install build-essential python3 zlib1g-dev libssl-dev'

/**
 * The client's own installation downloads a binary; without that it builds its sources, and so do we.
 * @throws UnavailableError when a compiler or Node's headers are missing, or it cannot be compiled
 */
async function compileConfluentClient(into: string, say: (progress: string) => void): Promise<void> {
  for (const compiler of COMPILERS) await runTool([compiler, '--version'], into, INSTALL_COMPILERS)
  const node = dirname(dirname(await realpath(Bun.which('node') ?? '')))
  if (!existsSync(join(node, 'include/node/node.h')))
    throw new UnavailableError('Node’s headers are not beside it; install them with: apt-get install libnode-dev')
  say('compiling librdkafka and the client’s addon, a few minutes, once')
  const client = join(into, 'node_modules/@confluentinc/kafka-javascript')
  const gyp = join(into, 'node_modules/node-gyp/bin/node-gyp.js')
  // Linked dynamically, it takes the system’s OpenSSL, zlib and so on; else it would download their sources. Not in parallel: its steps would
  // begin before what they need is there.
  const command = ['env', 'CKJS_LINKING=dynamic', 'node', gyp, 'rebuild', `--nodedir=${node}`] as const
  await runTool(command, client, INSTALL_COMPILERS)
  // 200 MB of sources and objects, of which the addon needs nothing.
  for (const folder of ['deps', 'build/Release/obj.target']) await rm(join(client, folder), { recursive: true })
}

const FASTIFY_CONFLUENT = javaScriptPeer({
  name: 'fastify-confluent',
  facts: {
    title: 'Node: Fastify + @confluentinc/kafka-javascript',
    settings: {
      acks: 'all',
      idempotence: 'on',
      linger: '1 ms',
      compression: 'lz4',
      'delivery timeout': '10 s',
      'delivery reports': 'polled in the background',
      logger: 'off',
      NODE_ENV: 'production',
    },
    notes:
      'Validation by Fastify’s JSON schema (Ajv). The client’s callback API, which says the offset of each record. Its addon is compiled from its bundled sources.',
  },
  runtime: NODE,
  packages: ['fastify', '@confluentinc/kafka-javascript'],
  compile: compileConfluentClient,
})

export const JAVASCRIPT_PEERS: readonly System[] = [FASTIFY_KAFKAJS, FASTIFY_CONFLUENT, HONO_PLATFORMATIC]
