import { lstat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { UnreadableError } from '../service/command-line.ts'
import { keyOf, schemaFiles } from './folder.ts'
import { MODES, type Mode } from './modes.ts'
import type { Registry } from './registry.ts'
import { readSchema } from './schema.ts'
import { type Compiled, MAX_SCHEMA_BYTES } from './verdict.ts'

/** The versions that there were before a change. */
export interface Published {
  /** For messages. */
  readonly name: string
  /** The mode of a subject where none is given. */
  modeOf(subject: string): Promise<Mode>
  /** In ascending order; none of a subject that was not there. */
  versions(subject: string): Promise<readonly number[]>
  /** Of a version that was there. */
  schemaOf(subject: string, version: number): Promise<Compiled>
  /** Versions that were there, of all subjects; undefined where only the subjects that are asked for count. */
  readonly all: readonly { path: string; subject: string; version: number }[] | undefined
}

const DEFAULT_MODE = MODES[1]

// ---- a registry

/** What is in it now; each subject's versions are asked for once. */
export function registryPublished(registry: Registry): Published {
  const versions = new Map<string, Promise<number[]>>()
  return {
    name: registry.name,
    modeOf: (subject) => registry.compatibilityOf(subject),
    versions: (subject) => versions.getOrInsertComputed(subject, () => registry.versions(subject)),
    async schemaOf(subject, version) {
      const found = await registry.schemaOf(subject, version)
      return found.ok ? readSchema(Buffer.from(found.text)) : { ok: false, faults: [found.fault] }
    },
    all: undefined,
  }
}

// ---- Git

/** The last commit of what is checked out. */
export const LAST_COMMIT = 'HEAD'
const GIT_TIMEOUT_MS = 60_000

/**
 * The versions in a folder as a commit has it. A folder that was not there, and a repository without a commit, have none.
 * @param ref a branch, a tag or a commit
 * @throws UnreadableError
 */
export async function gitPublished(folder: string, ref: string): Promise<Published> {
  // With a slash at its end, unless the folder is the root of the repository.
  const prefix = await ask(folder, ['rev-parse', '--show-prefix'])
  if (prefix === undefined)
    throw new UnreadableError(
      `${folder} is in no Git repository: \`git init\` there, or compare with a registry by --registry URL`,
    )
  const commit = await commitOf(folder, ref)
  if (commit === undefined) {
    const isUnborn = ref === LAST_COMMIT && (await ask(folder, ['symbolic-ref', '--quiet', 'HEAD'])) !== undefined
    if (!isUnborn) throw new UnreadableError(await absent(folder, ref))
    return published('nothing, since there is no commit yet', new Map(), [])
  }
  const tree = await ask(folder, [
    'rev-parse',
    '--verify',
    '--quiet',
    '--end-of-options',
    `${commit}:${prefix.replace(/\/$/, '')}`,
  ])
  const blobs = tree === undefined ? [] : await blobsOf(folder, tree)
  const { files } = schemaFiles(blobs.map(({ path }) => path))
  const byPath = new Map(blobs.map((blob) => [blob.path, blob]))
  const wanted = files.flatMap((file) => byPath.get(file.path) ?? [])
  const contents = await contentsOf(
    folder,
    wanted.filter(({ bytes }) => bytes <= MAX_SCHEMA_BYTES).map(({ id }) => id),
  )
  const schemas = new Map(
    files.map((file) => {
      const blob = byPath.get(file.path)
      const bytes = contents.get(blob?.id ?? '')
      return [keyOf(file), (): Compiled => (bytes === undefined ? tooLarge(blob?.bytes) : readSchema(bytes))]
    }),
  )
  return published(`${ref} (${commit.slice(0, 10)})`, schemas, files)
}

const tooLarge = (bytes = 0): Compiled => ({
  ok: false,
  faults: [`has ${bytes} bytes; a schema may have ${MAX_SCHEMA_BYTES}`],
})

function published(
  name: string,
  schemas: ReadonlyMap<string, () => Compiled>,
  all: NonNullable<Published['all']>,
): Published {
  return {
    name,
    all,
    modeOf: async () => DEFAULT_MODE,
    versions: async (subject) => all.filter((one) => one.subject === subject).map(({ version }) => version),
    async schemaOf(subject, version) {
      const read = schemas.get(keyOf({ subject, version }))
      if (read === undefined) throw new Error(`${subject} had no version ${version}`)
      return read()
    },
  }
}

/** @returns undefined: there is no such commit */
async function commitOf(folder: string, ref: string): Promise<string | undefined> {
  const verify = ['rev-parse', '--verify', '--quiet', '--end-of-options']
  // By itself first: after `:/TEXT`, which finds a commit by its message, `^{commit}` would be part of the text.
  const found = await ask(folder, [...verify, ref])
  return found === undefined ? undefined : ask(folder, [...verify, `${found}^{commit}`])
}

/** Refs that a shell and Git take as they are, without parts that begin as options do: what is printed gets pasted. */
const PLAIN_REF = /^(?!-|.*\/-)[\w./-]+$/

/**
 * The link on the way to a path that Git has in its index, be it as a link or as what was there before. What is behind such a link has another path for
 * Git, and so no versions before it.
 */
export async function trackedLinkOn(path: string): Promise<string | undefined> {
  for (let at = resolve(path); at !== dirname(at); at = dirname(at)) {
    const isLink = (await lstat(at).catch(() => undefined))?.isSymbolicLink() === true
    // Without Git there are no links of Git.
    if (!isLink || Bun.which('git') === null) continue
    if (await ask(dirname(at), ['ls-files', '--', `:(literal)${basename(at)}`])) return at
  }
  return undefined
}

/** What to do about a ref that is not there. */
async function absent(folder: string, ref: string): Promise<string> {
  const [remote, branch] = /^([^/]+)\/(.+)$/.exec(ref)?.slice(1) ?? []
  const command = branch === undefined ? 'git fetch --tags' : `git fetch ${remote} ${branch}:refs/remotes/${ref}`
  const fetchIt = PLAIN_REF.test(ref) ? ` it with \`${command}\`, or` : undefined
  if ((await ask(folder, ['rev-parse', '--is-shallow-repository'])) === 'true')
    return `${ref} is not in this clone, which is shallow:${fetchIt === undefined ? '' : ` get${fetchIt}`} check out with the whole history (actions/checkout: fetch-depth: 0)`
  return `${ref} is no commit of this repository:${fetchIt === undefined ? '' : ` fetch${fetchIt}`} name another with --against`
}

interface Blob {
  id: string
  bytes: number
  path: string
}

async function blobsOf(folder: string, tree: string): Promise<Blob[]> {
  const { exitCode, output, errors } = await git(folder, ['ls-tree', '-r', '-l', '-z', '--full-tree', tree])
  if (exitCode !== 0) throw new UnreadableError(`git cannot list ${folder}: ${errors}`)
  return output
    .toString('utf8')
    .split('\0')
    .flatMap((line) => {
      const [, mode = '', id = '', bytes, path = ''] = /^(\d+) blob ([0-9a-f]+) +(\d+)\t(.+)$/s.exec(line) ?? []
      // The content of a link is the name of what it links to.
      return mode.startsWith('100') ? [{ id, bytes: Number(bytes), path }] : []
    })
}

async function contentsOf(folder: string, ids: readonly string[]): Promise<ReadonlyMap<string, Buffer>> {
  const contents = new Map<string, Buffer>()
  if (ids.length === 0) return contents
  const { exitCode, output, errors } = await git(folder, ['cat-file', '--batch'], `${ids.join('\n')}\n`)
  if (exitCode !== 0) throw new UnreadableError(`git cannot read ${folder}: ${errors}`)
  let at = 0
  while (at < output.length) {
    const end = output.indexOf('\n', at)
    const [id = '', , bytes] = output.toString('latin1', at, end).split(' ')
    if (bytes === undefined) throw new UnreadableError(`git has not all of ${folder}: ${id} is missing`)
    contents.set(id, output.subarray(end + 1, end + 1 + Number(bytes)))
    at = end + 1 + Number(bytes) + 1
  }
  return contents
}

/** What a command prints, on one line; undefined when it fails as it does where there is nothing. */
async function ask(folder: string, args: readonly string[]): Promise<string | undefined> {
  const { exitCode, output, errors } = await git(folder, args)
  if (exitCode === 0) return output.toString('utf8').replace(/\n$/, '')
  // It has refused for another reason, such as an owner that it does not trust.
  if (/safe\.directory|permission denied/i.test(errors)) throw new UnreadableError(`git refuses: ${errors}`)
  return undefined
}

/** Hooks of Git have these set, for another folder than ours. */
const OF_HOOKS = ['GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE', 'GIT_PREFIX']

async function git(
  folder: string,
  args: readonly string[],
  input = '',
): Promise<{ exitCode: number; output: Buffer; errors: string }> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OF_HOOKS.includes(name)))
  if (Bun.which('git') === null)
    throw new UnreadableError('git is not installed: install it, or compare with a registry by --registry URL')
  const child = Bun.spawn(['git', '-C', folder, ...args], {
    env: { ...env, LC_ALL: 'C' },
    stdin: Buffer.from(input),
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: GIT_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  })
  const [output, errors, exitCode] = await Promise.all([child.stdout.bytes(), child.stderr.text(), child.exited])
  if (child.signalCode !== null) throw new UnreadableError(`git ${args[0]} did not end within ${GIT_TIMEOUT_MS} ms`)
  return { exitCode, output: Buffer.from(output.buffer, output.byteOffset, output.byteLength), errors: errors.trim() }
}
