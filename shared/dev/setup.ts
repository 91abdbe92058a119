/**
 * What every command needs before it starts: the pinned Bun, the dependencies of bun.lock, the native addon. Uses nothing but Bun, since
 * nothing is installed yet; silent and quick when all is there.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dir, '..', '..')
const stampFile = join(root, 'node_modules', '.kafkatrace-installed')

/** What to type when another Bun than the pinned one runs; undefined when it is the right one. */
export function wrongBun(pinned: string, running: string, script: string): string | undefined {
  if (pinned === running) return undefined
  return `KafkaTrace runs on Bun ${pinned}, and this is Bun ${running}; type: npx -y bun@${pinned} run ${script}`
}

/** What identifies an installation: it is repeated when either file changes. */
export function installStamp(packageJson: string, lockFile: string): string {
  return createHash('sha256').update(packageJson).update('\0').update(lockFile).digest('hex')
}

async function run(command: readonly string[]): Promise<number> {
  // Standard output belongs to the command that follows: `bun run config > file`.
  const child = Bun.spawn([...command], { cwd: root, stdio: ['ignore', 2, 2] })
  return await child.exited
}

async function setUp(): Promise<number> {
  const packageJson = readFileSync(join(root, 'package.json'), 'utf8')
  const { engines } = JSON.parse(packageJson) as { engines: { bun: string } }
  const fault = wrongBun(engines.bun, Bun.version, process.env.npm_lifecycle_event ?? 'dev')
  if (fault !== undefined) {
    console.error(fault)
    return 1
  }
  const stamp = installStamp(packageJson, readFileSync(join(root, 'bun.lock'), 'utf8'))
  if (!existsSync(stampFile) || readFileSync(stampFile, 'utf8') !== stamp) {
    console.error('installing dependencies as bun.lock says…')
    const beganMs = performance.now()
    // Lifecycle scripts stay off: the addon is built below, where its progress is shown and its faults are explained.
    const exitCode = await run([process.execPath, 'install', '--frozen-lockfile', '--ignore-scripts'])
    if (exitCode !== 0) {
      console.error('the dependencies could not be installed (see above); is the npm registry reachable?')
      return exitCode
    }
    mkdirSync(join(root, 'node_modules'), { recursive: true })
    writeFileSync(stampFile, stamp)
    console.error(`dependencies installed in ${((performance.now() - beganMs) / 1000).toFixed(1)} s`)
  }
  return await run([process.execPath, join('shared', 'kafka', 'native', 'build.ts')])
}

if (import.meta.main) process.exit(await setUp())
