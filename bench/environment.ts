import { readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Result } from './result.ts'

/** Where a result was made: enough to compare it, without names of hosts or paths. */

const ROOT = join(import.meta.dir, '..')

export function machine(): Result['machine'] {
  const all = cpus()
  return {
    cpu: all[0]?.model.trim() ?? 'unknown',
    cores: all.length,
    memoryBytes: totalmem(),
    kernel: `Linux ${release()}`,
    system: systemName(readFileSync('/etc/os-release', 'utf8')),
  }
}

/** os-release(5). */
export const systemName = (osRelease: string): string =>
  /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(osRelease)?.[1] ?? 'unknown'

/** The checked-out commit, marked when files differ from it. */
export function commit(): string {
  const git = (...args: string[]): string => {
    const { stdout, success } = Bun.spawnSync(['git', '-C', ROOT, ...args], { stdout: 'pipe', stderr: 'ignore' })
    return success ? stdout.toString().trim() : ''
  }
  const hash = git('rev-parse', 'HEAD')
  if (hash === '') return 'unknown'
  return git('status', '--porcelain', '--untracked-files=no') === '' ? hash : `${hash} with changes`
}

/** The version of an installed dependency. */
export function packageVersion(name: string): string {
  const file = join(ROOT, 'node_modules', name, 'package.json')
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
