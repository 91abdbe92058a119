import { afterEach, beforeEach, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { makeLogFolder } from './log-folder.ts'

let parent: string
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'kafkatrace-log-folder-test-'))
})
afterEach(() => rmSync(parent, { recursive: true }))

test('folders of runs that are over go; those of runs that are alive, and what is not ours, stay', () => {
  const ended = Bun.spawnSync(['true']).pid
  const stay = [
    `kafkatrace-dev-${process.ppid}-abcdef`,
    `kafkatrace-dev-${ended}`,
    `other-kafkatrace-dev-${ended}-abcdef`,
  ]
  for (const name of [...stay, `kafkatrace-dev-${ended}-abcdef`])
    mkdirSync(join(parent, name, 'deep'), { recursive: true })
  const own = makeLogFolder(parent)
  expect(basename(own)).toStartWith(`kafkatrace-dev-${process.pid}-`)
  const second = makeLogFolder(parent)
  expect(readdirSync(parent).toSorted()).toEqual([...stay, basename(own), basename(second)].toSorted())
})
