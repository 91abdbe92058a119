import { afterAll, expect, test } from 'bun:test'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { run } from '../dev/run.ts'
import { settled } from '../testing/settled.ts'
import { gitPublished, trackedLinkOn } from './published.ts'

/** Git as it is installed, in repositories of their own. */

const made: string[] = []
afterAll(() => {
  for (const folder of made) rmSync(folder, { recursive: true, force: true })
})

const newFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'kafkatrace-git-'))
  made.push(folder)
  return folder
}

async function git(folder: string, ...args: string[]): Promise<string> {
  const as = ['-c', 'user.name=a', '-c', 'user.email=a@example.com', '-c', 'init.defaultBranch=main']
  const { exitCode, output, errors } = await run(['git', '-C', folder, ...as, ...args])
  if (exitCode !== 0) throw new Error(`git ${args.join(' ')}: ${errors}`)
  return output.trim()
}

function write(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
}

async function commit(folder: string, files: Readonly<Record<string, string>>): Promise<string> {
  write(folder, files)
  await git(folder, 'add', '--all')
  await git(folder, 'commit', '--quiet', '--message', 'a')
  return git(folder, 'rev-parse', 'HEAD')
}

async function repository(files: Readonly<Record<string, string>>): Promise<string> {
  const folder = newFolder()
  await git(folder, 'init', '--quiet')
  if (Object.keys(files).length > 0) await commit(folder, files)
  return folder
}

test('versions are those of the commit, not those that are there now', async () => {
  const folder = await repository({ 'a.v1.json': '{"type":"string"}', 'deep/a.v2.json': 'true', 'README.md': '' })
  write(folder, { 'a.v1.json': '{"type":"number"}', 'a.v3.json': 'true' })
  const published = await gitPublished(folder, 'HEAD')
  expect(await published.versions('a')).toEqual([1, 2])
  expect(await published.schemaOf('a', 1)).toMatchObject({ ok: true, schema: { document: { type: 'string' } } })
  expect(await published.versions('b')).toEqual([])
})

test('a folder in the repository has its own versions', async () => {
  const folder = await repository({ 'x.v1.json': 'true', 'some/schemas/a.v1.json': 'true', 'some/b.v1.json': 'true' })
  const published = await gitPublished(join(folder, 'some', 'schemas'), 'HEAD')
  expect(published.all?.map(({ path }) => path)).toEqual(['a.v1.json'])
})

test('names that Git would quote, or take for patterns, are names', async () => {
  const subjects = ['a b', 'ü', '"', '*', '[a-z]', '-f', ':(top)', 'tab\t']
  const folder = await repository(
    Object.fromEntries(subjects.map((subject) => [`it’s "ü" [x]/*/${encodeURIComponent(subject)}.v1.json`, 'true'])),
  )
  const published = await gitPublished(join(folder, 'it’s "ü" [x]', '*'), 'HEAD')
  expect(published.all?.map(({ subject }) => subject).sort()).toEqual(subjects.sort())
  for (const subject of subjects) expect((await published.schemaOf(subject, 1)).ok).toBe(true)
})

test('a branch, a tag and a commit are refs', async () => {
  const folder = await repository({ 'a.v1.json': 'true' })
  await git(folder, 'commit', '--quiet', '--amend', '--message', 'the first')
  const first = await git(folder, 'rev-parse', 'HEAD')
  await git(folder, 'tag', 'one')
  await git(folder, 'branch', 'feature/x')
  await commit(folder, { 'a.v2.json': 'true' })
  for (const ref of [first, 'one', 'feature/x', 'HEAD~1', ':/first'])
    expect(await (await gitPublished(folder, ref)).versions('a')).toEqual([1])
  expect(await (await gitPublished(folder, 'HEAD')).versions('a')).toEqual([1, 2])
})

test('without a commit, or in a folder that was not there, nothing was published', async () => {
  const folder = await repository({})
  expect((await gitPublished(folder, 'HEAD')).all).toEqual([])
  await commit(folder, { 'README.md': '' })
  write(folder, { 'new/a.v1.json': 'true' })
  expect((await gitPublished(join(folder, 'new'), 'HEAD')).all).toEqual([])
})

test('a ref that is not there is refused, with what to do', async () => {
  const folder = await repository({ 'a.v1.json': 'true' })
  expect(await settled(gitPublished(folder, 'origin/main'))).toThrow(
    'origin/main is no commit of this repository: fetch it with `git fetch origin main:refs/remotes/origin/main`',
  )
  for (const ref of [
    '--all',
    'origin/--all',
    'main;reboot',
    'a/$(reboot)',
    'a b',
    ':a.v1.json',
    ':/none',
    'a/b\nc',
    '',
  ])
    expect(await settled(gitPublished(folder, ref))).toThrow(
      `${ref} is no commit of this repository: name another with --against`,
    )
  expect(await settled(gitPublished(newFolder(), 'HEAD'))).toThrow('is in no Git repository')
})

test('a shallow clone has its own commit, and says what it lacks', async () => {
  const origin = await repository({ 'a.v1.json': 'true' })
  await git(origin, 'branch', 'base')
  await commit(origin, { 'a.v2.json': 'true' })
  const clone = join(newFolder(), 'clone')
  await git(tmpdir(), 'clone', '--quiet', '--depth=1', `file://${origin}`, clone)
  expect(await (await gitPublished(clone, 'HEAD')).versions('a')).toEqual([1, 2])
  expect(await settled(gitPublished(clone, 'origin/base'))).toThrow(/shallow.*git fetch origin base:.*fetch-depth: 0/)
  expect(await settled(gitPublished(clone, 'HEAD~1'))).toThrow(/^HEAD~1 .*shallow: check out with the whole history/)
})

test('links, files that are too large, and what is no schema are not compared with', async () => {
  const folder = await repository({ 'a.v1.json': '[]', 'b.v1.json': `"${'x'.repeat(300_000)}"`, 'c.v1.json': 'true' })
  await run(['ln', '-s', 'c.v1.json', join(folder, 'd.v1.json')])
  await commit(folder, {})
  const published = await gitPublished(folder, 'HEAD')
  expect(await published.schemaOf('a', 1)).toMatchObject({ ok: false })
  expect(await published.schemaOf('b', 1)).toEqual({
    ok: false,
    faults: ['has 300002 bytes; a schema may have 262144'],
  })
  expect((await published.schemaOf('c', 1)).ok).toBe(true)
  expect(await published.versions('d')).toEqual([])
})

test('a link on the way to a folder is found where Git has it, or has what was there before', async () => {
  const folder = await repository({ 'schemas/a.v1.json': 'true', 'moved/deep/a.v1.json': 'true' })
  const [link, schemas] = [join(folder, '*'), join(folder, 'schemas')]
  await run(['ln', '-s', 'moved', link])
  expect(await trackedLinkOn(link)).toBeUndefined()
  await commit(folder, {})
  for (const path of [link, `${link}/`, join(link, 'deep'), join(link, 'none')])
    expect(await trackedLinkOn(path)).toBe(link)
  expect(await trackedLinkOn(schemas)).toBeUndefined()
  rmSync(schemas, { recursive: true })
  await run(['ln', '-s', 'moved', schemas])
  expect(await trackedLinkOn(schemas)).toBe(schemas)
  const outside = join(newFolder(), 'link')
  await run(['ln', '-s', join(folder, 'moved'), outside])
  expect(await trackedLinkOn(outside)).toBeUndefined()
})

test('as a hook of Git it compares in its folder', async () => {
  const folder = await repository({ 'schemas/a.v1.json': 'true' })
  const variables = { GIT_DIR: '.git', GIT_INDEX_FILE: '.git/index', GIT_PREFIX: '' }
  const before = Object.fromEntries(Object.keys(variables).map((name) => [name, process.env[name]]))
  Object.assign(process.env, variables)
  try {
    expect(await (await gitPublished(join(folder, 'schemas'), 'HEAD')).versions('a')).toEqual([1])
  } finally {
    for (const [name, value] of Object.entries(before))
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
  }
})
