import { readFileSync } from 'node:fs'

/** Larger than any certificate bundle, password or token. */
const MAX_SECRET_BYTES = 4 * 2 ** 20

/** A file that cannot be used. The message begins with the variable that names it, and has nothing of its content. */
export class SecretFileError extends Error {
  override readonly name = 'SecretFileError'
}

/**
 * Reads a file that a variable names.
 * @throws SecretFileError when it cannot be read, is empty, or is larger than 4 MiB
 */
export function readNamedFile(variable: string, path: string): Buffer {
  const fault = (what: string) => new SecretFileError(`${variable}=${path} ${what}`)
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw fault(`cannot be read: ${(error as NodeJS.ErrnoException).code ?? String(error)}`)
  }
  if (bytes.length === 0) throw fault('is empty.')
  if (bytes.length > MAX_SECRET_BYTES) throw fault(`has more than ${MAX_SECRET_BYTES} bytes.`)
  return bytes
}

/**
 * Reads a secret's file, without the newline that editors and `echo` put at its end.
 * @throws SecretFileError as {@link readNamedFile}, and when nothing is left
 */
export function readSecretFile(variable: string, path: string): string {
  const text = readNamedFile(variable, path)
    .toString('utf8')
    .replace(/\r?\n$/, '')
  if (text === '') throw new SecretFileError(`${variable}=${path} is empty.`)
  return text
}
