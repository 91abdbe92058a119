import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BoundChild, endBoundChild, spawnBoundChild } from '../../shared/dev/bound-child.ts'
import { until } from '../../shared/testing/until.ts'

const START_TIMEOUT_MS = 120_000
const END_MS = 5_000

/**
 * Starts a program in an empty folder, and waits until a URL answers 2xx.
 * @returns its process, and what ends it and removes the folder
 * @throws Error with its output when it ends before
 */
export async function startHealthy(
  command: readonly string[],
  health: string,
  env: Readonly<Record<string, string>> = {},
): Promise<{ child: BoundChild; end(): Promise<void> }> {
  const cwd = await mkdtemp(join(tmpdir(), 'kafkatrace-healthy-'))
  const log = Bun.file(join(cwd, 'log'))
  const child = spawnBoundChild(command, {
    stdout: log,
    stderr: log,
    cwd,
    env: { ...process.env, ...env },
    removeWhenOrphaned: cwd,
  })
  const end = async (): Promise<void> => {
    await endBoundChild(child, END_MS)
    await rm(cwd, { recursive: true, force: true })
  }
  const isHealthy = async (): Promise<boolean> => (await fetch(health).catch(() => undefined))?.ok === true
  try {
    await until(async () => child.exitCode !== null || (await isHealthy()), {
      timeoutMs: START_TIMEOUT_MS,
      what: health,
    })
    if (child.exitCode !== null)
      throw new Error(`${command.join(' ')} ended with ${child.exitCode}:\n${await log.text()}`)
  } catch (error) {
    await end()
    throw error
  }
  return { child, end }
}
