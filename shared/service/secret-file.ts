import { existsSync, readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'

/** Larger than any certificate bundle, password or token. */
const MAX_SECRET_BYTES = 4 * 2 ** 20

/** A file that cannot be used. The message begins with the variable that names it, and has nothing of its content. */
export class SecretFileError extends Error {
  override readonly name = 'SecretFileError'
}

/**
 * Whether a value may be printed as a path although it leads to no file that can be read. A secret that was put in its place seldom looks like a path, and is in no
 * folder that is there.
 */
function isInFolder(value: string): boolean {
  const folder = dirname(resolve(value))
  return /^\.{0,2}\/[\w./-]*$/.test(value) && folder !== '/' && existsSync(folder)
}

/**
 * Reads a file that a variable names.
 * @param instead the variable that takes the content itself, if there is one
 * @throws SecretFileError when it cannot be read, is empty, or is larger than 4 MiB
 */
export function readNamedFile(variable: string, path: string, instead?: string): Buffer {
  const fault = (what: string) => new SecretFileError(`${variable}=${path} ${what}`)
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    const { code = 'no reason is known' } = error as NodeJS.ErrnoException
    if (isInFolder(path)) throw fault(`cannot be read: ${code}`)
    throw new SecretFileError(
      `${variable} is to name a file, and what it has (not shown) names none in a folder that is there: ${code}. Is this the ${instead === undefined ? 'content of the file' : `value of ${instead}`}?`,
    )
  }
  if (bytes.length === 0) throw fault('is empty.')
  if (bytes.length > MAX_SECRET_BYTES) throw fault(`has more than ${MAX_SECRET_BYTES} bytes.`)
  return bytes
}

/**
 * Reads the file of the variable NAME_FILE, which stands in place of a secret in NAME, without the newline that editors and `echo` put at its end.
 * @throws SecretFileError as {@link readNamedFile}, and when nothing is left
 */
export function readSecretFile(variable: `${string}_FILE`, path: string): string {
  const text = readNamedFile(variable, path, variable.replace(/_FILE$/, ''))
    .toString('utf8')
    .replace(/\r?\n$/, '')
  if (text === '') throw new SecretFileError(`${variable}=${path} is empty.`)
  return text
}
