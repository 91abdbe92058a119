import { constants } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { SchemaVersion } from './identity.ts'
import { MAX_SCHEMA_BYTES } from './verdict.ts'

/** Schemas as files: `SUBJECT.vVERSION.json`, in folders of any depth. Names that begin with a dot are skipped. */

export interface SchemaFile extends SchemaVersion {
  /** From the folder, with `/`. */
  path: string
}

/** What would be a version in another format. */
const OTHER = /\.v[1-9]\d{0,8}\.(?:ya?ml|json5?|jsonc)$/i
const FILE = /^(.+)\.v([1-9]\d{0,8})\.json$/
const PLAIN = /[^A-Za-z0-9._-]/gu

/** The name of a version's file. A character of the subject other than A-Z a-z 0-9 . _ - is percent-encoded. */
export const fileNameOf = ({ subject, version }: SchemaVersion): string => {
  const encoded = subject.replaceAll(PLAIN, (character) =>
    [...Buffer.from(character)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  )
  // A name that begins with a dot would be skipped.
  return `${encoded.replace(/^\./, '%2E')}.v${version}.json`
}

/** What a file's name says; undefined where it is no version's. */
export function parseFileName(name: string): SchemaVersion | undefined {
  const [, encoded, version] = FILE.exec(name) ?? []
  if (encoded === undefined || name.startsWith('.')) return undefined
  try {
    return { subject: decodeURIComponent(encoded), version: Number(version) }
  } catch {
    return undefined
  }
}

/** Whether the path of a file leads through a name that begins with a dot. */
export const isHidden = (path: string): boolean => path.split('/').some((name) => name.startsWith('.'))

export interface Listed {
  /** By subject, and versions in ascending order. */
  files: SchemaFile[]
  /** Files that end with `.json` and are none of a version, versions in other formats, and versions that are there twice. */
  faults: string[]
}

/** The versions among files of a folder. @param paths from the folder, with `/` */
export function schemaFiles(paths: Iterable<string>): Listed {
  const files = new Map<string, SchemaFile>()
  const faults: string[] = []
  for (const path of [...paths].sort()) {
    if (isHidden(path)) continue
    if (!path.endsWith('.json')) {
      if (OTHER.test(path)) faults.push(`${path}: is not named .json, and schemas are JSON`)
      continue
    }
    const name = parseFileName(path.slice(path.lastIndexOf('/') + 1))
    if (name === undefined) {
      faults.push(`${path}: is not named SUBJECT.vVERSION.json, as in acme.orders-order.placed.v2.json`)
      continue
    }
    const key = keyOf(name)
    const other = files.get(key)
    if (other === undefined) files.set(key, { path, ...name })
    else faults.push(`${path}: is version ${name.version} of ${name.subject}, and so is ${other.path}`)
  }
  return { files: [...files.values()].sort(bySubject), faults }
}

export const keyOf = ({ subject, version }: SchemaVersion): string => `${version} ${subject}`

const bySubject = (one: SchemaVersion, other: SchemaVersion): number =>
  one.subject < other.subject ? -1 : one.subject > other.subject ? 1 : one.version - other.version

/** The paths of all files in a folder, without those whose name begins with a dot. Links to folders are not followed. */
export async function pathsIn(folder: string): Promise<string[]> {
  const found: string[] = []
  const walk = async (under: string): Promise<void> => {
    for (const entry of await readdir(join(folder, under), { withFileTypes: true })) {
      if (entry.name.startsWith('.')) continue
      if (entry.isDirectory()) await walk(`${under}${entry.name}/`)
      else found.push(`${under}${entry.name}`)
    }
  }
  await walk('')
  return found
}

/** A schema's file, unless it is too large to be one. @throws Error saying why it cannot be read */
export async function readSchemaFile(path: string): Promise<Buffer> {
  try {
    // Else it would wait for whoever writes to a named pipe.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const found = await file.stat()
      if (!found.isFile()) throw new Error('is no regular file')
      if (found.size > MAX_SCHEMA_BYTES) throw tooLarge(found.size)
      const bytes = Buffer.allocUnsafe(MAX_SCHEMA_BYTES + 1)
      let length = 0
      for (let read = -1; read !== 0 && length < bytes.length; length += read)
        read = (await file.read(bytes, length, bytes.length - length)).bytesRead
      // It has grown.
      if (length === bytes.length) throw tooLarge(length)
      // A copy, which does not keep the rest.
      return Buffer.from(bytes.subarray(0, length))
    } finally {
      await file.close()
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new Error(`${path}: ${code === 'ENOENT' ? 'there is no such file' : message}`)
  }
}

const tooLarge = (bytes: number): Error => new Error(`has ${bytes} bytes; a schema may have ${MAX_SCHEMA_BYTES}`)
