#!/usr/bin/env bun
/**
 * Makes a checkout ready to run: the right Bun, the packages of bun.lock, the Kafka client's addon. Every script of package.json runs it
 * first, so it uses Bun's built-ins only, and says nothing when there is nothing to do.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dir, '../..')
/** What was installed: it lies among the packages, so that it goes when they are removed. */
const stampPath = join(root, 'node_modules/.kafkatrace-installed')

function demandBun(): void {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { engines: { bun: string } }
  const wanted = manifest.engines.bun
  if (Bun.version === wanted) return
  const script = process.env.npm_lifecycle_event ?? 'dev'
  // The addon is built against this very version's memory layout: see shared/kafka/native.
  fail(`KafkaTrace needs Bun ${wanted}, and this is Bun ${Bun.version}; type: npx -y bun@${wanted} run ${script}`)
}

async function installPackages(): Promise<void> {
  const wanted = createHash('sha256')
    .update(readFileSync(join(root, 'bun.lock')))
    .digest('hex')
  if (existsSync(stampPath) && readFileSync(stampPath, 'utf8') === wanted) return
  say('installing the packages of bun.lock')
  const begun = performance.now()
  const child = Bun.spawn([process.execPath, 'install', '--frozen-lockfile', '--ignore-scripts'], {
    cwd: root,
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const [output, errors, exitCode] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited])
  if (exitCode !== 0) fail(`bun install failed; is the npm registry reachable?\n${`${output}${errors}`.trimEnd()}`)
  writeFileSync(stampPath, wanted)
  say(`packages installed in ${seconds(begun)}`)
}

/** What takes longer than this is worth a line. */
const quickMs = 2_000

async function buildAddon(): Promise<void> {
  const begun = performance.now()
  const child = Bun.spawn([process.execPath, join(root, 'shared/kafka/native/build.ts')], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const exitCode = await child.exited
  if (exitCode !== 0) process.exit(exitCode)
  if (performance.now() - begun > quickMs) say(`the Kafka addon is ready after ${seconds(begun)}`)
}

const seconds = (begun: number): string => `${((performance.now() - begun) / 1000).toFixed(1)} s`

function say(text: string): void {
  process.stderr.write(`setup: ${text}\n`)
}

function fail(message: string): never {
  say(message)
  process.exit(1)
}

demandBun()
await installPackages()
await buildAddon()
