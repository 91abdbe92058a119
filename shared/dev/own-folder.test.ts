import { afterEach, beforeEach, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { makeOwnFolder } from './own-folder.ts'

let parent: string
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'kafkatrace-own-folder-test-'))
})
afterEach(() => rmSync(parent, { recursive: true }))

test('folders of processes that have ended go; those of others, and what is not ours, stay', () => {
  const ended = Bun.spawnSync(['true']).pid
  const stay = [
    `kafkatrace-own-${process.ppid}-abcdef`,
    `kafkatrace-own-${ended}`,
    `other-kafkatrace-own-${ended}-abcdef`,
  ]
  for (const name of [...stay, `kafkatrace-own-${ended}-abcdef`])
    mkdirSync(join(parent, name, 'deep'), { recursive: true })
  const own = makeOwnFolder('kafkatrace-own-', parent)
  expect(basename(own)).toStartWith(`kafkatrace-own-${process.pid}-`)
  const second = makeOwnFolder('kafkatrace-own-', parent)
  expect(readdirSync(parent).toSorted()).toEqual([...stay, basename(own), basename(second)].toSorted())
})
